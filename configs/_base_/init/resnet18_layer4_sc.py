# From scratch, with the 3x3 kernels of layer4 alone created anew
_base_ = './resnet18_layer2-4_sc.py'

fresh = [r'backbone\.conv1', r'layer4\.\d+\.conv[12]', r'layer4\.0\.downsample\.0', r'head\.fc']
default_hooks = dict(fresh=dict(layers=fresh))

# From scratch. What the authors' release creates anew, whatever the method, starts as torch's layers do: stem, 3x3 kernels of layer2-4, the
# downsampling of layer4 and the classifier. mmpretrain would draw them from other distributions, and under Adam the scale of a kernel matters
_base_ = '../default_runtime.py'

fresh = [r'backbone\.conv1', r'layer[2-4]\.\d+\.conv[12]', r'layer4\.0\.downsample\.0', r'head\.fc']
default_hooks = dict(fresh=dict(type='DropPretrainedHook', layers=fresh))

# Transfer learning with the pretrained 3x3 kernels of layer2 and layer3 kept
_base_ = './resnet18_layer4_sc.py'

default_hooks = dict(pretrained=dict(type='PretrainedWeights', checkpoint='checkpoints/resnet18-f37072fd.pth', drop=_base_.fresh))

# Transfer learning: torchvision's ImageNet weights (IMAGENET1K_V1) from a local file, for all but what the authors' release creates anew
_base_ = './resnet18_layer2-4_sc.py'

default_hooks = dict(pretrained=dict(type='PretrainedWeights', checkpoint='checkpoints/resnet18-f37072fd.pth', drop=_base_.fresh))

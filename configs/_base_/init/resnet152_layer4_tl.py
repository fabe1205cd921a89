# Transfer learning (IMAGENET1K_V2), as ResNet-50
_base_ = './resnet50_layer4_tl.py'

default_hooks = dict(pretrained=dict(checkpoint='checkpoints/resnet152-f82ba261.pth'))

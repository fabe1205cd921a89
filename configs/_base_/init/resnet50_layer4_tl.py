# Transfer learning (IMAGENET1K_V2): in bottlenecks conv2 is the 3x3 convolution, and the 1x1 keep their weights
_base_ = './resnet18_layer4_tl.py'

fresh = [r'backbone\.conv1', r'layer4\.\d+\.conv2', r'layer4\.0\.downsample\.0', r'head\.fc']
default_hooks = dict(
    fresh=dict(layers=fresh),
    pretrained=dict(checkpoint='checkpoints/resnet50-11ad3fa6.pth', drop=fresh),
)

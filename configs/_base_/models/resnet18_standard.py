# The paper's ResNet-18 for small images (3x3 stem, no pooling) with standard convolutions and the layer4 surgery of the others.
# Stem and layer4 follow the authors' release: a new 3x3 stem, dilation 2 in the later blocks of layer4. The text (E.6) says that the stem's stride
# changes, and that the first convolution of layer4 is the dilated one
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='AdaptiveResNet_CIFAR',
        depth=18,
        zero_init_residual=False,
        stages_with_adaptive=(False, True, True, True),
        adaptive_cfg=dict(type='Conv2d'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)

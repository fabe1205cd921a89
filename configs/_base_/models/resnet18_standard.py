# The paper's ResNet-18 for small images (3x3 stem, no pooling) with standard convolutions and the layer4 surgery of the others
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

_base_ = [
    '../_base_/models/resnet18_deform.py',
    '../_base_/datasets/cifar100_bs128.py',
    '../_base_/schedules/adam_240e.py',
    '../_base_/init/resnet50_layer4_tl.py',
]

model = dict(backbone=dict(depth=50, stages_with_adaptive=(False, False, False, True)), head=dict(num_classes=100, in_channels=2048))

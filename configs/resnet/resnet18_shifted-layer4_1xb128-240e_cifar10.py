_base_ = [
    '../_base_/models/resnet18_shifted.py',
    '../_base_/datasets/cifar10_bs128.py',
    '../_base_/schedules/adam_240e.py',
    '../_base_/init/resnet18_layer4_sc.py',
]

model = dict(backbone=dict(stages_with_adaptive=(False, False, False, True)))

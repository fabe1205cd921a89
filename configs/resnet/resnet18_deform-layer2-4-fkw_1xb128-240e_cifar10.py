_base_ = [
    '../_base_/models/resnet18_deform_fkw.py',
    '../_base_/datasets/cifar10_bs128.py',
    '../_base_/schedules/adam_240e.py',
    '../_base_/init/resnet18_layer2-4_sc.py',
]

_base_ = [
    '../_base_/models/resnet18_deform_fair.py',
    '../_base_/datasets/cifar100_bs128.py',
    '../_base_/schedules/adam_240e.py',
    '../_base_/init/resnet18_layer2-4_sc.py',
]

model = dict(head=dict(num_classes=100))

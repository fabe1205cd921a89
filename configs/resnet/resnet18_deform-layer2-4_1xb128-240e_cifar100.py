_base_ = [
    '../_base_/models/resnet18_deform.py',
    '../_base_/datasets/cifar100_bs128.py',
    '../_base_/schedules/adam_240e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=100))

# A quarter of ResNet-18's width, on the images that come with this project
_base_ = [
    '../_base_/models/resnet18_deform.py',
    '../_base_/datasets/fashion_mnist_12k_bs64.py',
    '../_base_/schedules/adamw_5e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(stem_channels=16, base_channels=16),
    head=dict(in_channels=128),
)
default_hooks = dict(geometry=dict(type='GeometryHook'))

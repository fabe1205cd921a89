# An eighth of ResNet-18's width, on the images that come with this project
_base_ = [
    '../_base_/models/resnet18_standard.py',
    '../_base_/datasets/fashion_mnist_12k_bs32.py',
    '../_base_/schedules/adamw_3e_small.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    head=dict(in_channels=64),
)

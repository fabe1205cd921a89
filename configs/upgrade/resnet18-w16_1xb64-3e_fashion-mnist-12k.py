# A standard network to upgrade: a quarter of ResNet-18's width, 3 epochs on the images that come with this project
_base_ = [
    '../_base_/models/resnet18_standard.py',
    '../_base_/datasets/fashion_mnist_12k_bs64.py',
    '../_base_/schedules/adamw_3e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(stem_channels=16, base_channels=16),
    head=dict(in_channels=128),
)
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=40))

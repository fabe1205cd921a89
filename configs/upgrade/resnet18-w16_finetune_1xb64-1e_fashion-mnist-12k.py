# The control: the standard network, trained on for one epoch more, its stem and first stage frozen
_base_ = [
    '../_base_/models/resnet18_standard.py',
    '../_base_/datasets/fashion_mnist_12k_bs64.py',
    '../_base_/schedules/finetune_adamw_1e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(stem_channels=16, base_channels=16, frozen_stages=1),
    head=dict(in_channels=128),
)
load_from = 'work_dirs/resnet18-w16_1xb64-3e_fashion-mnist-12k/epoch_3.pth'
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=40))

# A quarter of ResNet-18's width, trained in minutes on two CPU cores on the images that come with this project
_base_ = [
    '../_base_/models/resnet18_metric.py',
    '../_base_/datasets/fashion_mnist_12k_bs64.py',
    '../_base_/schedules/adamw_3e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(stem_channels=16, base_channels=16, adaptive_cfg=dict(kernel_init='kaiming')),
    head=dict(in_channels=128),
)
# predictors move the samples of every later layer: they learn slowly, so that the kernels can follow
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(predictor=dict(lr_mult=0.1))))
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=20))
custom_hooks = [dict(type='GeometryHook', draw_interval=3, layers='layer4')]

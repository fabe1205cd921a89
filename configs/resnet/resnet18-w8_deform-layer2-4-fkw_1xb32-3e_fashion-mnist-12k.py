_base_ = './resnet18-w8_deform-layer2-4_1xb32-3e_fashion-mnist-12k.py'

model = dict(backbone=dict(adaptive_cfg=dict(fixed_kernel=True)))

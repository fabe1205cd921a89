# Random kernels at the start, as standard convolutions have
_base_ = './resnet18-w8_metric-layer2-4_1xb32-3e_fashion-mnist-12k.py'

model = dict(backbone=dict(adaptive_cfg=dict(kernel_init='kaiming')))

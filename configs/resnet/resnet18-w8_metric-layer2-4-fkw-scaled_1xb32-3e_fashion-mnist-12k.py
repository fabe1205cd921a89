# Fixed kernels, and the encoding of learnt ones: it bounds the size of the ball, and starts from a disk
_base_ = './resnet18-w8_metric-layer2-4_1xb32-3e_fashion-mnist-12k.py'

model = dict(backbone=dict(adaptive_cfg=dict(fixed_kernel=True)))

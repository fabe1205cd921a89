# Deformable convolutions in layer2-4, with the paper's constant kernels at the start
_base_ = './resnet18_standard.py'

model = dict(
    backbone=dict(
        adaptive_cfg=dict(type='DeformConv', kernel_init='uniform'),
    ),
)

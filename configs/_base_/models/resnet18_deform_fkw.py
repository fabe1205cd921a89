# Deformable convolutions whose kernels are fixed at 1 / (9 C_in); all other layers learn
_base_ = './resnet18_deform.py'

model = dict(backbone=dict(adaptive_cfg=dict(fixed_kernel=True)))

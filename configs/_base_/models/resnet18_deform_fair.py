# Deformable convolutions with random kernels at the start, where the paper's are constant. From scratch those leave all output channels of a
# convolution alike, since nothing else differs between them
_base_ = './resnet18_deform.py'

model = dict(backbone=dict(adaptive_cfg=dict(kernel_init='kaiming')))

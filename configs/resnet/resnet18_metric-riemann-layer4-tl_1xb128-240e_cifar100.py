# The paper's Table 11, Riemannian: known from the authors' scripts
_base_ = './resnet18_metric-layer4-tl_1xb128-240e_cifar100.py'

model = dict(backbone=dict(adaptive_cfg=dict(eps_w=1.0)))

# Metric convolutions whose kernels are fixed at 1 / (9 C_in); all other layers learn. Metrics come from 6 numbers (the paper's Algorithm 2).
# eps_w is not known for fixed kernels: 0.5 as for learnt ones, 1.0 would be Riemannian
_base_ = './resnet18_metric.py'

model = dict(backbone=dict(adaptive_cfg=dict(fixed_kernel=True, encoding='spectral', eps_L=0.01)))

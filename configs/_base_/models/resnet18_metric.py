# Metric convolutions over unit tangent balls in layer2-4, with the paper's constant kernels at the start.
# eps_w and the initial predictors are those of the authors' scripts: E.6 says Riemannian, and describes the start of another encoding (Cholesky)
_base_ = './resnet18_standard.py'

model = dict(
    backbone=dict(
        adaptive_cfg=dict(
            type='MetricConv',
            kernel_init='uniform',
            encoding='spectral_scaled',
            drift='sigmoid_detached',
            support='onion',
            eps_w=0.5,
            scale_range=(0.1, 1.5),
        ),
    ),
)

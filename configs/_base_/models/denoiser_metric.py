# One metric convolution of a grey image, as the paper's denoisers: Cholesky metrics, no sample at the centre
model = dict(
    type='OneLayerDenoiser',
    kernel_size=5,
    conv=dict(
        type='MetricConv',
        encoding='cholesky',
        drift='sigmoid',
        support='polar',
        eps_w=0.1,
        kernel_init='uniform',
        fixed_kernel=True,
    ),
)

# One deformable convolution of a grey image
model = dict(
    type='OneLayerDenoiser',
    kernel_size=5,
    conv=dict(type='DeformConv', kernel_init='uniform', fixed_kernel=True),
)

# The default runtime; the best checkpoint is that of the least error
_base_ = './default_runtime.py'

default_hooks = dict(
    checkpoint=dict(interval=10, save_best='denoising/mse', rule='less'),
    logger=dict(interval=1),
)

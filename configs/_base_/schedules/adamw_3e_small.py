# Three epochs of large steps, for narrow networks with many fixed kernels: at the rates of adamw_3e.py they hardly learn in that time.
# Predictors learn at a tenth of it, those of every convolution alike
_base_ = './adamw_3e.py'

optim_wrapper = dict(optimizer=dict(lr=8e-3), paramwise_cfg=dict(custom_keys=dict(predictor=dict(lr_mult=0.1))))
auto_scale_lr = dict(base_batch_size=32)

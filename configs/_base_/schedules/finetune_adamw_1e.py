# Fine-tuning an upgraded model: one epoch of AdamW at a fraction of the rate of training, predictors at a tenth of that, since they move the samples
# of every later layer. To hold the predictors at their neutral output for the first epochs, add a warm-up hook to custom_hooks
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(predictor=dict(lr_mult=0.1))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min=0, T_max=1, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)

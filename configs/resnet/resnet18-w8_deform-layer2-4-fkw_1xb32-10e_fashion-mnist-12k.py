_base_ = './resnet18-w8_deform-layer2-4-fkw_1xb32-3e_fashion-mnist-12k.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0, T_max=9, begin=1, end=10, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10)

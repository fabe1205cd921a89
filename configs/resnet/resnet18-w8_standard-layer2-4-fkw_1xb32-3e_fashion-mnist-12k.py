# A box filter: a fixed kernel on a grid that its predictor, held where it starts, never moves
_base_ = './resnet18-w8_standard-layer2-4_1xb32-3e_fashion-mnist-12k.py'

model = dict(backbone=dict(adaptive_cfg=dict(type='ShiftedConv', fixed_kernel=True, predictor_init='identity')))
default_hooks = dict(
    geometry=dict(type='GeometryHook'),
    hold=dict(type='PredictorWarmupHook', epochs=1000),
)

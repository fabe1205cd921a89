# A trained FCN, upgraded in its last stage and its head, and fine-tuned for 4,000 iterations at a tenth of the learning rate. It starts from mmseg's
# checkpoint of the plain segmenter, whose outputs it gives at first:
# --cfg-options load_from=fcn_r50-d8_512x512_20k_voc12aug_20200617_010715-52dc5306.pth
_base_ = f'{__import__("mmseg").__path__[0]}/.mim/configs/fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py'
custom_imports = dict(imports=['metricconv_mm'], allow_failed_imports=False)

# load_from replaces the ImageNet weights
_base_.model.pretrained = None
model = dict(
    _delete_=True,
    type='ConvertConvs',
    conv='MetricConv',
    layers=['backbone.layer4', 'decode_head.convs'],
    kernel_sizes=3,
    support='grid',
    model=_base_.model,
)
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    paramwise_cfg=dict(custom_keys=dict(predictor=dict(lr_mult=0.1))),
)
param_scheduler = [dict(type='PolyLR', eta_min=1e-5, power=0.9, begin=0, end=4000, by_epoch=False)]
train_cfg = dict(max_iters=4000, val_interval=1000)

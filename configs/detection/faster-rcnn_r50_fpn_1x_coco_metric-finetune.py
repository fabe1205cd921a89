# A trained Faster R-CNN, upgraded and fine-tuned for 3 epochs at a tenth of the learning rate. It starts from mmdet's checkpoint of the plain
# detector, whose outputs it gives at first: --cfg-options load_from=faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
custom_imports = dict(imports=['metricconv_mm'], allow_failed_imports=False)

# load_from replaces the ImageNet weights
_base_.model.backbone.init_cfg = None
model = dict(
    _delete_=True,
    type='ConvertConvs',
    conv='MetricConv',
    layers=['backbone.layer[3-4]', 'neck.fpn_convs'],
    kernel_sizes=3,
    support='grid',
    model=_base_.model,
)
train_cfg = dict(max_epochs=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=3, by_epoch=True, milestones=[2], gamma=0.1),
]
optim_wrapper = dict(
    optimizer=dict(lr=0.002),
    paramwise_cfg=dict(custom_keys=dict(predictor=dict(lr_mult=0.1))),
)

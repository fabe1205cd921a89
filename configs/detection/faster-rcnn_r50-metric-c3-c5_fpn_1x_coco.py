# Faster R-CNN whose backbone has metric convolutions where mmdet's deformable ones go: the 3 x 3 of stages c3 to c5.
# support='grid': the ImageNet weights, which the base config downloads, keep their meaning, and training starts from the plain detector
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
custom_imports = dict(imports=['metricconv_mm'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        dcn=dict(type='MetricConv', support='grid'),
        stage_with_dcn=(False, True, True, True),
    ),
)
# not dcn_offset_lr_mult, which mmdet ignores without compiled mmcv ops
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(predictor=dict(lr_mult=0.1))))

# FCN whose backbone has metric convolutions where mmseg's deformable ones go: the dilated 3 x 3 of stages c4 and c5.
# support='grid': the ImageNet weights, which the base config downloads, keep their meaning, and training starts from the plain segmenter.
# Not 'mmseg::fcn/...': mmengine looks for a distribution of the name mmsegmentation, which the maintained one (onedl-mmsegmentation) is not
_base_ = f'{__import__("mmseg").__path__[0]}/.mim/configs/fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py'
custom_imports = dict(imports=['metricconv_mm'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        dcn=dict(type='MetricConv', support='grid'),
        stage_with_dcn=(False, False, True, True),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(predictor=dict(lr_mult=0.1))))

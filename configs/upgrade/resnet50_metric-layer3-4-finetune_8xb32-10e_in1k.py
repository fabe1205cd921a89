# ImageNet's ResNet-50 with torchvision's, timm's or mmpretrain's weights from a local file, upgraded to metric convolutions in layer3-4:
# --cfg-options custom_hooks.0.checkpoint=resnet50-11ad3fa6.pth
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/finetune_adamw_1e.py',
    '../_base_/default_runtime.py',
]

_base_.model.backbone.frozen_stages = 1
model = dict(
    _delete_=True,
    type='ConvertConvs',
    conv='MetricConv',
    layers='backbone.layer[3-4]',
    kernel_sizes=3,
    support='grid',
    model=_base_.model,
)
custom_hooks = [dict(type='PretrainedWeights', checkpoint='resnet50.pth')]
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=500, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min=0, T_max=10, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10)
auto_scale_lr = dict(base_batch_size=256)

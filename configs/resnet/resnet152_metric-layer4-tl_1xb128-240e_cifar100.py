_base_ = [
    '../_base_/models/resnet18_metric.py',
    '../_base_/datasets/cifar100_bs128.py',
    '../_base_/schedules/adam_240e.py',
    '../_base_/init/resnet152_layer4_tl.py',
]

model = dict(backbone=dict(depth=152, stages_with_adaptive=(False, False, False, True)), head=dict(num_classes=100, in_channels=2048))
# this weight, eps_w and scale_range are known from the authors' scripts for this setting
default_hooks = dict(predictor_l1=dict(type='PredictorL1Hook', weight=5000))

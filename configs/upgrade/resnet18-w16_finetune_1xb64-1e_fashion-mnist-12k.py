# The control: the standard network, trained on for one epoch more
_base_ = [
    './resnet18-w16_1xb64-3e_fashion-mnist-12k.py',
    '../_base_/schedules/finetune_adamw_1e.py',
]

model = dict(backbone=dict(frozen_stages=1))
load_from = 'work_dirs/resnet18-w16_1xb64-3e_fashion-mnist-12k/epoch_3.pth'

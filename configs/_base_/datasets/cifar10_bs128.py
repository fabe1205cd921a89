# CIFAR-10 with the paper's augmentation: torchvision's RandomResizedCrop (scale 0.08-1) and a horizontal flip.
# Nothing is downloaded unless asked: --cfg-options train_dataloader.dataset.download=True
data_preprocessor = dict(num_classes=10, mean=[125.307, 122.95, 113.865], std=[62.993, 62.089, 66.705], to_rgb=False)
train_pipeline = [
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.08, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    dataset=dict(type='LocalCIFAR10', data_root='data/cifar10', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=2,
    dataset=dict(type='LocalCIFAR10', data_root='data/cifar10', split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# Fashion-MNIST in IDX files, 28x28, the grey channel three times, no augmentation
data_preprocessor = dict(num_classes=10, mean=[72.93] * 3, std=[90.015] * 3, to_rgb=False)
pipeline = [dict(type='PackInputs')]
dataset = dict(type='IDXDataset', data_root='data/fashion_mnist', pipeline=pipeline)

train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    dataset=dict(**dataset, split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=2,
    dataset=dict(**dataset, split='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# The 200 + 100 images of BSDS300 (or train and val of BSDS500) at 256 x 256, grey, with frozen noise; evaluated on both for the generalisation gap
dataset = dict(type='NoisyImageDataset', data_root='data/bsds300', sigma=0.1, size=(256, 256), seed=0)

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    dataset=dict(**dataset, splits=dict(train='train')),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    dataset=dict(**dataset, splits=dict(val='val', train='train')),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='DenoisingError')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# The 1464 + 1449 images of PascalVOC2012's segmentation task, as BSDS300
dataset = dict(type='NoisyImageDataset', data_root='data/VOCdevkit/VOC2012', sigma=0.1, size=(256, 256), seed=0, image_folder='JPEGImages')
lists = dict(train='ImageSets/Segmentation/train.txt', val='ImageSets/Segmentation/val.txt')

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    dataset=dict(**dataset, splits=dict(train=lists['train'])),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    dataset=dict(**dataset, splits=dict(val=lists['val'], train=lists['train'])),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='DenoisingError')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

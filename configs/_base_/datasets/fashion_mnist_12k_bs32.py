# Small batches, and no processes that load images: they are in memory
_base_ = './fashion_mnist_12k_bs64.py'

train_dataloader = dict(batch_size=32, num_workers=0)
val_dataloader = dict(num_workers=0)
test_dataloader = val_dataloader

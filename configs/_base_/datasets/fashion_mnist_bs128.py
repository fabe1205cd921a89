# Fashion-MNIST in IDX files, as MNIST
_base_ = './mnist_bs128.py'

data_preprocessor = dict(mean=[72.93] * 3, std=[90.015] * 3)
train_dataloader = dict(dataset=dict(data_root='data/fashion_mnist'))
val_dataloader = dict(dataset=dict(data_root='data/fashion_mnist'))
test_dataloader = val_dataloader

# The 10,000 + 2,000 images of Fashion-MNIST that come with this project
_base_ = './mnist_bs128.py'

data_preprocessor = dict(mean=[72.93] * 3, std=[90.015] * 3)
train_dataloader = dict(batch_size=64, dataset=dict(data_root='data/fashion_mnist_12k'))
val_dataloader = dict(dataset=dict(data_root='data/fashion_mnist_12k'))
test_dataloader = val_dataloader

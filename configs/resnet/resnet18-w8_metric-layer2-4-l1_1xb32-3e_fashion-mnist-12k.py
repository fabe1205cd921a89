# The penalty on the predictors with which the authors train on CIFAR
_base_ = './resnet18-w8_metric-layer2-4_1xb32-3e_fashion-mnist-12k.py'

default_hooks = dict(l1=dict(type='PredictorL1Hook', weight=5000))

# The penalty on the predictors with which the authors train on CIFAR
_base_ = './resnet18-w16_metric-layer2-4_1xb64-5e_fashion-mnist-12k.py'

default_hooks = dict(l1=dict(type='PredictorL1Hook', weight=5000))

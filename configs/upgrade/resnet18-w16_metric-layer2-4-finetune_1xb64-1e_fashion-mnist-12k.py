# The standard network, upgraded to metric convolutions in layer2-4, and fine-tuned as the control is
_base_ = './resnet18-w16_finetune_1xb64-1e_fashion-mnist-12k.py'

model = dict(
    _delete_=True,
    type='ConvertConvs',
    conv='MetricConv',
    layers='backbone.layer[2-4]',
    kernel_sizes=3,
    support='grid',
    model=_base_.model,
)

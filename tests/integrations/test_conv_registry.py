import subprocess
import sys

import pytest
import torch
from torch import nn

pytest.importorskip('mmpretrain')
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.model import BaseModule, Sequential
from mmengine.registry import MODELS

import metricconv_mm.integrations.mm  # noqa: F401
from metricconv_mm import AdaptiveConv2d, DeformConv2d, MetricConv2d, ShiftedConv2d

pytestmark = pytest.mark.stack
CLASSES = {'MetricConv': MetricConv2d, 'ShiftedConv': ShiftedConv2d, 'DeformConv': DeformConv2d}


@pytest.mark.parametrize('name', [*CLASSES, *(cls.__name__ for cls in CLASSES.values())])
def test_every_name_builds_its_layer(name):
    layer = build_conv_layer(dict(type=name), 4, 6, 3, stride=2, padding=1, bias=False)
    assert type(layer) is CLASSES.get(name, type(layer)) and layer.bias is None
    assert layer(torch.randn(1, 4, 8, 8)).shape == (1, 6, 4, 4)


def test_a_1x1_metric_convolution_stays_standard():
    layer = build_conv_layer(dict(type='MetricConv', eps_w=0.1, fixed_kernel=True), 4, 6, 1, bias=False)
    assert type(layer) is nn.Conv2d and layer.weight.requires_grad


def test_options_of_conv_cfg_reach_the_layer():
    layer = build_conv_layer(dict(type='MetricConv', encoding='cholesky', eps_w=1.0, support='grid'), 4, 4, 3)
    assert (layer.encoding, layer.limits.eps_w, layer.support) == ('cholesky', 1.0, 'grid')


@pytest.mark.parametrize('metric', ['randers', 'matsumoto', 'riemann', 'isotropic'])
def test_a_network_with_any_metric_trains_a_step(metric):
    backbone = small_resnet('ResNet', conv_cfg=dict(type='MetricConv', metric=metric), _scope_='mmpretrain')
    model = MODELS.build(backbone)
    model.init_weights()
    layers = [module for module in model.modules() if isinstance(module, MetricConv2d)]
    assert len(layers) > 8 and all(layer.family == metric for layer in layers)
    before = [layer.predictor.weight.clone() for layer in layers]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    out = model(torch.randn(2, 3, 64, 64))[0]
    (out * torch.randn_like(out)).sum().backward()
    optimiser.step()
    for layer, weight in zip(layers, before, strict=True):
        assert layer.predictor.weight.isfinite().all() and not torch.equal(layer.predictor.weight, weight)


@pytest.mark.parametrize(('name', 'channels'), [('MetricConv', 14), ('ShiftedConv', 4), ('DeformConv', 36)])
def test_deform_groups_is_understood(name, channels):
    assert build_conv_layer(dict(type=name, deform_groups=2), 4, 4, 3).predictor.out_channels == channels


def test_conv_module_takes_every_layer_and_padding_mode():
    x = torch.randn(2, 4, 9, 9)
    for name in CLASSES:
        for mode in ('zeros', 'reflect', 'circular'):
            module = ConvModule(4, 6, 3, padding=1, padding_mode=mode, conv_cfg=dict(type=name), norm_cfg=dict(type='BN'))
            assert module(x).shape == (2, 6, 9, 9)


def adaptive_state(model):
    return {
        f'{name}.{key}': value.clone()
        for name, module in model.named_modules()
        if isinstance(module, AdaptiveConv2d)
        for key, value in [*module.state_dict().items(), ('kernel', module.weight.detach())]
    }


def small_resnet(kind, **kwargs):
    return dict(type=kind, depth=18, stem_channels=8, base_channels=8, **kwargs)


BACKBONES = {
    'ResNet': lambda conv: small_resnet('ResNet', conv_cfg=conv),
    'ResNetV1d': lambda conv: dict(type='ResNetV1d', depth=50, stem_channels=8, base_channels=8, conv_cfg=conv),
    'VGG': lambda conv: dict(type='VGG', depth=11, conv_cfg=conv, norm_cfg=dict(type='BN')),
    'MobileNetV2': lambda conv: dict(type='MobileNetV2', widen_factor=0.25, conv_cfg=conv),
}


@pytest.mark.parametrize('conv', ['MetricConv', 'DeformConv'])
@pytest.mark.parametrize('backbone', BACKBONES)
def test_init_weights_of_the_host_keeps_what_the_layer_asked_for(backbone, conv):
    model = MODELS.build({**BACKBONES[backbone](dict(type=conv)), '_scope_': 'mmpretrain'})
    before = adaptive_state(model)
    model.init_weights()
    after = adaptive_state(model)
    assert len(before) > 8
    for name, value in before.items():
        assert torch.equal(value, after[name]), name


@pytest.mark.parametrize('kernel_init', ['uniform', 'kaiming'])
def test_layers_inside_sequential_survive_too(kernel_init):
    class Host(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type='Kaiming', layer=['Conv2d']))
            self.layer = Sequential(build_conv_layer(dict(type='MetricConv', kernel_init=kernel_init), 4, 4, 3), nn.Conv2d(4, 4, 3))

    model = Host()
    before, plain = adaptive_state(model), model.layer[1].weight.clone()
    model.init_weights()
    assert all(torch.equal(value, adaptive_state(model)[name]) for name, value in before.items())
    assert not torch.equal(plain, model.layer[1].weight), 'the host did not initialise anything: the test shows nothing'


def test_every_grouped_or_depthwise_block_of_mobilenet_runs():
    model = MODELS.build({**BACKBONES['MobileNetV2'](dict(type='MetricConv')), '_scope_': 'mmpretrain'})
    model(torch.randn(2, 3, 32, 32))[-1].mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_whole_metric_resnet_trains_on_flat_images():
    """Features that are exactly zero over whole regions must not turn into NaN gradients."""
    torch.manual_seed(0)
    model = MODELS.build({**small_resnet('ResNet_CIFAR', conv_cfg=dict(type='MetricConv')), '_scope_': 'mmpretrain'})
    model.init_weights()
    x = torch.zeros(4, 3, 12, 12)
    x[:2] = -1
    model(x)[-1].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_the_scope_prefix_imports_the_package_by_itself():
    code = (
        "from mmengine.registry import MODELS; m = MODELS.build(dict(type='metricconv_mm.AdaptiveResNet', depth=18, "
        "adaptive_cfg=dict(type='MetricConv'))); print(type(m.layer4[0].conv1).__name__)"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip().endswith('MetricConv2d'), done.stderr


def test_convert_convs_gives_the_same_class_keys_and_outputs():
    inner = dict(
        type='ImageClassifier',
        backbone=small_resnet('ResNet', zero_init_residual=False),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
    )
    torch.manual_seed(0)
    plain = MODELS.build({**inner, '_scope_': 'mmpretrain'})
    config = dict(type='ConvertConvs', model=inner, conv='MetricConv', layers='layer[2-4]', support='grid', _scope_='mmpretrain')
    converted = MODELS.build(config)
    assert type(converted) is type(plain)
    converted.load_state_dict(plain.state_dict(), strict=True)
    new = set(converted.state_dict()) - set(plain.state_dict())
    assert len(new) == 24 and all('.predictor.' in key for key in new)
    x = torch.randn(2, 3, 64, 64)
    plain.eval(), converted.eval()
    with torch.no_grad():
        assert (plain(x) - converted(x)).abs().max() < 1e-5


def test_convert_convs_passes_the_data_preprocessor_on():
    inner = dict(type='ImageClassifier', backbone=small_resnet('ResNet'))
    model = MODELS.build(
        dict(type='ConvertConvs', model=inner, layers='layer4', _scope_='mmpretrain', data_preprocessor=dict(mean=[7.0] * 3, std=[2.0] * 3))
    )
    assert model.data_preprocessor.mean.flatten().tolist() == [7.0] * 3


def test_a_checkpoint_of_another_architecture_is_refused():
    small = MODELS.build(small_resnet('AdaptiveResNet', adaptive_cfg=dict(type='MetricConv')))
    wide = MODELS.build({**small_resnet('AdaptiveResNet', adaptive_cfg=dict(type='MetricConv')), 'base_channels': 16})
    with pytest.raises(RuntimeError, match='size mismatch for layer4.1.conv2.predictor.weight'):
        small.load_state_dict(wide.state_dict())

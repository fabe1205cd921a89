import pytest
import torch
from torch import nn

pytest.importorskip('mmpretrain')
from mmengine.registry import MODELS

import metricconv_mm.integrations.mm  # noqa: F401
from metricconv_mm import DeformConv2d, MetricConv2d, ShiftedConv2d

from .networks import PARAMETERS

METHODS = {
    'standard': (None, nn.Conv2d),
    'deform': (dict(type='DeformConv'), DeformConv2d),
    'shifted': (dict(type='ShiftedConv'), ShiftedConv2d),
    'metric': (dict(type='MetricConv'), MetricConv2d),
}
STAGES = {'layer2-4': (False, True, True, True), 'layer4': (False, False, False, True)}

CLASSES = 100


def build(depth, method, stages, fixed=False, **kwargs):
    adaptive = METHODS[method][0]
    if fixed:
        # the paper's fixed-kernel networks predict eigenvalues without the common scale
        adaptive = dict(adaptive, fixed_kernel=True, **({'encoding': 'spectral'} if method == 'metric' else {}))
    return MODELS.build(
        dict(
            type='AdaptiveResNet_CIFAR',
            depth=depth,
            zero_init_residual=False,
            adaptive_cfg=adaptive,
            stages_with_adaptive=STAGES[stages],
            out_indices=(0, 1, 2, 3),
            **kwargs,
        )
    )


@pytest.mark.parametrize(('key', 'count'), PARAMETERS.items(), ids=lambda value: '-'.join(map(str, value)) if isinstance(value, tuple) else '')
def test_parameters_are_those_of_the_paper(key, count):
    depth, method, stages, kernel = key
    model = build(depth, method, stages, kernel == 'fixed').to('meta')
    assert sum(p.numel() for p in model.parameters()) + (model.feat_dim + 1) * CLASSES == count


@pytest.mark.parametrize('depth', [18, 50])
def test_feature_maps_are_those_of_the_paper(depth):
    model = build(depth, 'metric', 'layer2-4').to('meta')
    shapes = [tuple(f.shape[2:]) for f in model(torch.randn(1, 3, 32, 32, device='meta'))]
    assert shapes == [(32, 32), (16, 16), (8, 8), (8, 8)]


@pytest.mark.parametrize('method', METHODS)
def test_replaced_convolutions_and_their_geometry(method):
    model = build(18, method, 'layer4').to('meta')
    for name, module in model.named_modules():
        if name.startswith('layer') and name.endswith(('conv1', 'conv2')):
            assert type(module) is (METHODS[method][1] if name.startswith('layer4') else nn.Conv2d), name
    expected = {'layer4.0.conv1': (1, 1), 'layer4.0.conv2': (1, 1), 'layer4.1.conv1': (1, 2), 'layer4.1.conv2': (1, 2), 'layer3.0.conv1': (2, 1)}
    for name, (stride, dilation) in expected.items():
        conv = model.get_submodule(name)
        assert (conv.stride, conv.dilation, conv.padding) == ((stride,) * 2, (dilation,) * 2, (dilation,) * 2), name
    assert model.layer4[0].downsample[0].stride == (1, 1)


def test_bottlenecks_adapt_their_3x3_convolution_alone():
    model = build(50, 'deform', 'layer2-4').to('meta')
    adaptive = {name for name, module in model.named_modules() if isinstance(module, DeformConv2d)}
    assert adaptive == {f'layer{stage}.{block}.conv2' for stage, blocks in ((2, 4), (3, 6), (4, 3)) for block in range(blocks)}


def test_layer4_surgery_can_be_left_out():
    model = build(18, 'metric', 'layer2-4', dilate_last_stage=False).to('meta')
    assert model(torch.randn(1, 3, 32, 32, device='meta'))[-1].shape[2:] == (4, 4)


def test_imagenet_stem_and_frozen_stages():
    model = MODELS.build(
        dict(type='AdaptiveResNet', depth=18, base_channels=8, stem_channels=8, adaptive_cfg=dict(type='MetricConv'), frozen_stages=2)
    )
    assert model(torch.randn(1, 3, 64, 64))[0].shape == (1, 64, 4, 4)
    assert not any(p.requires_grad for p in model.layer2.parameters())
    assert all(p.requires_grad for p in model.layer3.parameters())


def test_a_plain_checkpoint_loads_into_the_adaptive_network():
    plain = MODELS.build(dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, _scope_='mmpretrain'))
    model = MODELS.build(dict(type='AdaptiveResNet', depth=18, base_channels=8, stem_channels=8, adaptive_cfg=dict(type='MetricConv')))
    model.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(model.layer3[0].conv1.weight, plain.layer3[0].conv1.weight)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(adaptive_cfg=dict(type='NoConv')), 'choose one of'),
        (dict(adaptive_cfg=dict(eps_w=0.5)), 'expected adaptive_cfg'),
        (dict(adaptive_cfg=dict(type='MetricConv', eps_w=2)), '0 < eps_w <= 1'),
        (dict(adaptive_cfg=dict(type='MetricConv'), stages_with_adaptive=(True,)), 'expected stages_with_adaptive for 4 stages'),
    ],
)
def test_wrong_configs_are_explained(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='AdaptiveResNet', depth=18, **kwargs))

import copy
import re

import pytest
import torch
from torch import nn

from metricconv_mm import AdaptiveConv2d, DeformConv2d, MetricConv2d, ShiftedConv2d
from metricconv_mm.surgery import convert, select

torchvision = pytest.importorskip('torchvision')


def small():
    return nn.Sequential(nn.Conv2d(3, 8, 7, padding=3), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 4, 1)))


def names(model, *args, **kwargs):
    return list(select(model, *args, **kwargs))


@pytest.fixture(scope='module')
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=10).eval()


def test_everything_but_1x1_is_chosen_unless_said_otherwise(resnet):
    chosen = select(resnet)
    assert len(chosen) == 17 and all(conv.kernel_size != (1, 1) for conv in chosen.values())


@pytest.mark.parametrize(
    ('layers', 'kernel_sizes', 'count'),
    [
        ('layer4', None, 4),
        ('layer4.0', None, 2),
        ('layer4.0.conv1', None, 1),
        (r'layer[2-4]', None, 12),
        ('conv2', None, 8),
        (r'layer\d\.1\.conv[12]', None, 8),
        (['layer1', 'layer4.1.conv2'], None, 5),
        (lambda name, conv: conv.stride == (2, 2), None, 4),
        (None, 7, 1),
        (None, [3, (7, 7)], 17),
        ('layer4', 1, 1),
    ],
)
def test_names_parts_expressions_functions_and_sizes_choose(resnet, layers, kernel_sizes, count):
    assert len(select(resnet, layers, kernel_sizes)) == count


def test_a_name_is_no_prefix_of_a_longer_one():
    model = nn.ModuleDict({'layer1': nn.Conv2d(1, 1, 3), 'layer10': nn.Conv2d(1, 1, 3)})
    assert names(model, 'layer1') == ['layer1']


@pytest.mark.parametrize(
    ('layers', 'kernel_sizes', 'message'),
    [
        ('layer9', None, "no nn.Conv2d matches 'layer9'"),
        (['layer4', 'stage1'], None, "no nn.Conv2d matches 'stage1'"),
        (None, 5, 'a kernel of the sizes asked for'),
        (lambda name, conv: False, None, 'the function given'),
    ],
)
def test_what_matches_nothing_is_an_error_that_names_the_convolutions(resnet, layers, kernel_sizes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        select(resnet, layers, kernel_sizes)
    assert 'layer1.0.conv1 3x3' in str(error.value) and '(20 in all)' in str(error.value)


def test_a_broken_expression_is_explained(resnet):
    with pytest.raises(ValueError, match='not a regular expression'):
        select(resnet, 'layer[')


def test_unknown_convolutions_are_refused_with_the_known_ones(resnet):
    with pytest.raises(ValueError, match=r"choose one of \['Conv2d', 'DeformConv', 'GeodesicConv', 'MetricConv', 'ShiftedConv'"):
        convert(copy.deepcopy(resnet), 'GaussConv')


@pytest.mark.parametrize(('conv', 'options'), [('MetricConv', dict(support='grid')), ('ShiftedConv', {}), ('DeformConv', {})])
def test_a_converted_network_computes_what_it_did(resnet, conv, options):
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = resnet(x)
        after = convert(copy.deepcopy(resnet), conv, **options)(x)
    assert (before - after).abs().max() < 1e-5


@pytest.mark.parametrize('encoding', ['cholesky', 'ldl', 'spectral', 'spectral_scaled'])
def test_every_encoding_starts_losslessly_on_grid(resnet, encoding):
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        after = convert(copy.deepcopy(resnet), 'MetricConv', 'layer[2-4]', support='grid', encoding=encoding)(x)
        assert (resnet(x) - after).abs().max() < 1e-5


def test_grouped_depthwise_strided_and_dilated_convolutions_start_losslessly():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2), groups=2),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False),
        nn.Conv2d(8, 6, 4, padding='same', padding_mode='zeros'),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode='reflect'),
    )
    x = torch.randn(2, 4, 21, 17)
    with torch.no_grad():
        before = model(x)
        after = convert(model, 'MetricConv', support='grid')(x)
    assert all(isinstance(layer, MetricConv2d) for layer in model)
    assert (before - after).abs().max() < 1e-5


def test_weights_stay_the_same_parameters():
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weight = model[0].weight
    weight.requires_grad_(False)
    convert(model, 'DeformConv')
    assert model[0].weight is weight and not weight.requires_grad
    assert any(weight is p for group in optimizer.param_groups for p in group['params'])


def test_mode_device_and_dtype_are_kept():
    model = small().double().eval()
    convert(model, 'ShiftedConv')
    assert isinstance(model[0], ShiftedConv2d) and not model[0].training and model[0].predictor.weight.dtype == torch.float64
    meta = convert(small().to('meta'), 'MetricConv')
    assert meta[0].predictor.weight.is_meta and meta(torch.randn(1, 3, 9, 9, device='meta')).shape == (1, 4, 9, 9)


def test_shared_convolutions_stay_shared():
    shared = nn.Conv2d(4, 4, 3, padding=1)
    model = convert(nn.Sequential(shared, nn.ReLU(), shared), 'MetricConv')
    assert model[0] is model[2] and isinstance(model[0], MetricConv2d)


def test_weights_can_be_left_behind():
    model = convert(small(), 'MetricConv', keep_weights=False, kernel_init='uniform')
    assert (model[0].weight == 1 / (3 * 49)).all()
    fixed = convert(small(), 'MetricConv', fixed_kernel=True)
    assert '0.weight' not in fixed.state_dict()
    with pytest.raises(ValueError, match='cannot go with keep_weights'):
        convert(small(), 'MetricConv', fixed_kernel=True, keep_weights=True)


def test_a_single_convolution_is_replaced_by_its_return_value():
    conv = nn.Conv2d(3, 4, 3)
    new = convert(conv, 'DeformConv')
    assert isinstance(new, DeformConv2d) and new.weight is conv.weight


def test_back_to_standard_is_a_conversion_of_what_is_nn_conv2d():
    model = convert(small(), 'Conv2d', '0', padding=0)
    assert type(model[0]) is nn.Conv2d and model[0].padding == (0, 0)


class Doubled(nn.Conv2d):
    def forward(self, input):
        return 2 * super().forward(input)


def test_convolutions_that_compute_something_else_are_refused():
    with pytest.raises(ValueError, match=r'cannot convert 0: .*Doubled computes something else'):
        convert(nn.Sequential(Doubled(3, 4, 3)))
    with pytest.raises(ValueError, match='weight or spectral norm'):
        convert(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))))


def test_a_patched_forward_and_hooks_on_the_state_dict_are_refused():
    model = small()
    model[0].forward = lambda input: input
    with pytest.raises(ValueError, match='cannot convert 0: .*computes something else'):
        convert(model)
    model = small()
    model[0].register_state_dict_post_hook(lambda *args: None)
    with pytest.raises(ValueError, match=r'cannot convert 0: it has hooks on its state_dict \(_state_dict_hooks\)'):
        convert(model)


def test_hooks_stay_and_can_be_removed():
    model, calls = small(), []
    conv, x = model[0], torch.randn(1, 3, 9, 9)
    handles = [
        conv.register_forward_pre_hook(lambda module, args: calls.append('before')),
        conv.register_forward_hook(lambda module, args, kwargs, out: calls.append(type(module).__name__), with_kwargs=True),
        conv.register_full_backward_hook(lambda module, grad_input, grad_output: calls.append('backward')),
    ]
    convert(model, 'ShiftedConv')
    model(x.requires_grad_()).sum().backward()
    assert calls == ['before', 'ShiftedConv2d', 'backward']
    for handle in handles:
        handle.remove()
    model(x)
    assert len(calls) == 3


def test_adaptive_layers_stay_as_they_are_and_are_counted(caplog):
    model = convert(small(), 'MetricConv', kernel_sizes=7)
    first = model[0]
    with caplog.at_level('INFO', logger='metricconv_mm.surgery'):
        convert(model, 'ShiftedConv')
        convert(model, 'DeformConv', ['0', '2'])
    assert model[0] is first and isinstance(model[2][0], ShiftedConv2d)
    assert caplog.messages == [
        '1 convolutions are now ShiftedConv2d (2.0); 1 adaptive ones stay as they were',
        '0 convolutions are now DeformConv2d (none); 2 adaptive ones stay as they were',
    ]
    with pytest.raises(ValueError, match="no nn.Conv2d matches '5'"):
        convert(model, 'DeformConv', '5')


def test_a_failed_conversion_changes_nothing():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, (1, 3)))
    with pytest.raises(ValueError, match=r"cannot convert 1: support 'onion'"):
        convert(model, 'MetricConv')
    assert type(model[0]) is nn.Conv2d


def test_fx_traces_and_exports_a_converted_network():
    model = convert(small(), 'MetricConv').eval()
    x = torch.randn(1, 3, 9, 9)
    program = torch.export.export(model, (x,))
    assert torch.equal(program.module()(x), model(x))
    assert isinstance(model[0], AdaptiveConv2d)

"""The layers where nn.Conv2d stood."""

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn

from metricconv_mm import AdaptiveConv2d, GeodesicConv2d, MetricConv2d

GEOMETRIES = [
    {'kernel_size': 3},
    {'kernel_size': 3, 'padding': 1},
    {'kernel_size': 3, 'stride': 2, 'padding': 1},
    {'kernel_size': 3, 'padding': 2, 'dilation': 2},
    {'kernel_size': 5, 'stride': (2, 1), 'padding': (1, 2), 'dilation': (1, 2), 'groups': 2, 'bias': False},
    {'kernel_size': 3, 'padding': 'same', 'dilation': (1, 2)},
    {'kernel_size': 3, 'padding': 'valid', 'stride': 2},
    {'kernel_size': (3, 2), 'padding': (0, 1)},
    {'kernel_size': (2, 4), 'padding': 'same', 'dilation': (3, 1)},
    {'kernel_size': (1, 3), 'stride': 3},
    {'kernel_size': 1, 'stride': 2},
]
ATTRIBUTES = [  # those that mmcv's ConvModule reads
    'in_channels', 'out_channels', 'kernel_size', 'stride', 'padding', 'dilation', 'groups', 'transposed', 'output_padding', 'padding_mode',
]  # fmt: skip
MODES = ['zeros', 'reflect', 'replicate', 'circular']
geometries = pytest.mark.parametrize('geometry', GEOMETRIES, ids=str)
modes = pytest.mark.parametrize('mode', MODES)


def identity(cls):
    """What makes a layer start as a plain convolution."""
    if cls is GeodesicConv2d:
        return {'support': 'grid', 'stencil_scale': 1.0, 'flow_time': 0.0}
    return {'support': 'grid'} if cls is MetricConv2d else {'predictor_init': 'identity'}


@geometries
@modes
def test_the_identity_computes_what_a_plain_convolution_does(cls, geometry, mode):
    plain = nn.Conv2d(4, 6, padding_mode=mode, **geometry).double()
    layer = cls(4, 6, padding_mode=mode, dtype=torch.float64, **geometry, **identity(cls))
    layer.load_state_dict(plain.state_dict())
    image = torch.randn(2, 4, 9, 10, dtype=torch.float64)
    torch.testing.assert_close(layer(image), plain(image), rtol=1e-10, atol=1e-12)


@geometries
@modes
def test_shapes_are_those_of_a_plain_convolution(cls, stir, geometry, mode):
    support = {'support': 'polar'} if issubclass(cls, MetricConv2d) else {}
    layer = stir(cls(4, 6, padding_mode=mode, **geometry, **support))
    plain = nn.Conv2d(4, 6, padding_mode=mode, **geometry)
    assert layer(torch.randn(2, 4, 9, 10)).shape == plain(torch.randn(2, 4, 9, 10)).shape


@pytest.mark.parametrize(('size', 'sides'), [((9, 10), ((1, 1), (0, 1))), ((8, 7), ((0, 1), (1, 1)))])
def test_same_padding_with_a_stride_is_larger_below_and_right(cls, size, sides):
    layer = cls(4, 6, 3, stride=2, padding='same', dtype=torch.float64, **identity(cls))
    image = torch.randn(2, 4, *size, dtype=torch.float64)
    assert layer.padded_sides(image) == sides
    padded = nn.functional.pad(image, (*sides[1], *sides[0]))
    torch.testing.assert_close(layer(image), nn.functional.conv2d(padded, layer.weight, layer.bias, 2), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('shape', [(4, 8, 9), (0, 4, 8, 9), (33, 4, 8, 9)])
def test_batches_of_any_size_and_none(cls, stir, shape):
    layer = stir(cls(4, 6, 3, 2, 1))
    out = layer(torch.randn(shape))
    assert out.shape == nn.Conv2d(4, 6, 3, 2, 1)(torch.randn(shape)).shape and out.isfinite().all()
    out.sum().backward()


def test_an_image_without_a_batch_is_a_batch_of_one(cls, stir):
    layer, image = stir(cls(4, 6, 3)), torch.randn(4, 8, 9)
    torch.testing.assert_close(layer(image), layer(image[None])[0])


def test_the_arguments_of_a_plain_convolution_come_first_in_its_order(cls):
    plain = inspect.signature(nn.Conv2d).parameters
    ours = inspect.signature(cls).parameters
    positional = [name for name, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [name for name in plain if name not in ('device', 'dtype')]
    assert all(ours[name].default == plain[name].default for name in positional)


def test_positional_arguments(cls):
    arguments = (4, 6, (3, 3), (2, 1), (1, 2), (1, 2), 2, False, 'circular')
    layer, plain = cls(*arguments), nn.Conv2d(*arguments)
    assert layer(torch.randn(1, 4, 8, 9)).shape == plain(torch.randn(1, 4, 8, 9)).shape
    assert layer.bias is None


def test_attributes_are_those_that_hosts_read(cls):
    for arguments in ((4, 6, 3), (4, 6, 5, (2, 1), (1, 2), 2, 2, False, 'reflect')):
        layer, plain = cls(*arguments), nn.Conv2d(*arguments)
        assert {name: getattr(layer, name) for name in ATTRIBUTES} == {name: getattr(plain, name) for name in ATTRIBUTES}
        assert layer.weight.shape == plain.weight.shape and (layer.bias is None) == (plain.bias is None)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_device_and_dtype(cls, device, dtype):
    layer = cls(4, 6, 3, device=device, dtype=dtype, modulation=True)
    tensors = [*layer.parameters(), layer(torch.zeros(1, 4, 8, 8, device=device, dtype=dtype))]
    assert all(t.device.type == device and t.dtype == dtype for t in tensors)


def test_a_layer_can_leave_the_meta_device(cls):
    layer = cls(4, 6, 3, device='meta', fixed_kernel=True).to_empty(device='cpu')
    layer.reset_parameters()
    fresh = cls(4, 6, 3, fixed_kernel=True)
    assert torch.equal(layer.weight, fresh.weight) and torch.equal(layer.bias, fresh.bias)
    assert layer(torch.randn(1, 4, 8, 8)).isfinite().all()


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=['deepcopy', 'pickle'])
def test_copies_compute_the_same_and_share_nothing(cls, stir, duplicate):
    layer, image = stir(cls(4, 6, 3, fixed_kernel=True, modulation=True)), torch.randn(1, 4, 8, 8)
    expected = layer(image)
    other = duplicate(layer)
    assert torch.equal(other(image), expected)
    with torch.no_grad():
        for tensor in (*other.parameters(), other.weight):
            tensor.zero_()
    assert torch.equal(layer(image), expected)


def test_channels_last_is_kept(cls, stir):
    layer, image = stir(cls(4, 6, 3, 2, 1, modulation=True)), torch.randn(2, 4, 8, 9)
    out = layer(image.to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last) and not out.is_contiguous()
    torch.testing.assert_close(out, layer(image))


def test_a_frozen_host_learns_nothing_it_should_not(cls, stir):
    layer = stir(cls(4, 6, 3)).requires_grad_(False)
    image = torch.randn(1, 4, 8, 8, requires_grad=True)
    layer(image).sum().backward()
    assert image.grad.any() and all(p.grad is None for p in layer.parameters())


def test_representation_shows_what_is_unusual(cls):
    assert repr(cls(4, 6, 3)).startswith(f'{cls.__name__}(\n  4, 6, kernel_size=(3, 3), stride=(1, 1)')
    unusual = repr(cls(4, 6, 3, padding=1, bias=False, fixed_kernel=True, modulation=True, **{cls.groups_argument: 2}))
    for part in ('padding=(1, 1)', 'bias=False', 'fixed_kernel=True', 'modulation=True', f'{cls.groups_argument}=2'):
        assert part in unusual and part not in repr(cls(4, 6, 3))


def test_the_base_class_says_what_is_missing():
    with pytest.raises(TypeError, match=r'AdaptiveConv2d must define predictor_channels\(\)'):
        AdaptiveConv2d(4, 6, 3)

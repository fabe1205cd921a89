"""The operators against nn.functional.conv2d, torchvision's deformable convolution, and each other."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from metricconv_mm.functional import deform_conv2d, metric_conv2d, shifted_conv2d
from metricconv_mm.geometry import reference_support, tangent_ball
from metricconv_mm.ops import reference, use_backend
from metricconv_mm.ops.transforms import OPERATORS

TAPS = 6
UNIT_DISK = ((1 - 1e-6) ** 2, 0, (1 - 1e-6) ** 2, 0, 0)  # F + eps = 1


def torchvision(input, offset, weight, bias, mask, *, stride, padding, dilation, groups):
    return torchvision_deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


def assert_same_values_and_gradients(actual, expected, tensors):
    torch.testing.assert_close(actual, expected)
    grad = torch.randn_like(expected)
    for one, other in zip(torch.autograd.grad(actual, tensors, grad), torch.autograd.grad(expected, tensors, grad), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@pytest.mark.parametrize('with_mask', [True, False])
def test_deformable_convolution_is_torchvisions(draw, lopsided, with_mask):
    tensors = draw('deform_conv2d', mask=with_mask, requires_grad=True)
    input, offset, weight, bias, mask = tensors
    actual = deform_conv2d(input, offset, weight, bias, mask=mask, **lopsided)
    assert_same_values_and_gradients(actual, torchvision(*tensors, **lopsided), [t for t in tensors if t is not None])


@pytest.mark.usefixtures('backend')
def test_shifted_convolution_is_torchvisions_with_one_offset_for_all_taps(draw, lopsided):
    tensors = draw('shifted_conv2d', requires_grad=True)
    input, shift, weight, bias, mask = tensors
    offset = shift.unflatten(1, (-1, 1, 2)).expand(-1, -1, TAPS, -1, -1, -1).flatten(1, 3)
    actual = shifted_conv2d(input, shift, weight, bias, mask=mask, **lopsided)
    assert_same_values_and_gradients(actual, torchvision(input, offset, weight, bias, mask, **lopsided), tensors)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('support', ['polar', 'grid'])
@pytest.mark.parametrize('norm', OPERATORS)
def test_metric_convolution_is_torchvisions_at_the_samples_of_its_balls(draw, lopsided, norm, support):
    tensors = draw(OPERATORS[norm], requires_grad=True)
    input, metric, weight, bias, mask = tensors
    samples = tangent_ball(metric.unflatten(1, (-1, 5)), support, (3, 2), dilation=lopsided['dilation'], norm=norm)
    grid = reference_support('grid', (3, 2), lopsided['dilation'])
    offset = (samples - (grid[:, :2] * grid[:, 2:])[..., None, None]).flip(3).flatten(1, 3)
    actual = metric_conv2d(input, metric, weight, bias, support=support, mask=mask, norm=norm, **lopsided)
    assert_same_values_and_gradients(actual, torchvision(input, offset, weight, bias, mask, **lopsided), tensors)


@pytest.mark.usefixtures('backend')
def test_offsets_of_zero_change_nothing(draw, lopsided):
    input, offset, weight, bias, _ = draw('deform_conv2d')
    expected = conv2d(input, weight, bias, **lopsided)
    torch.testing.assert_close(deform_conv2d(input, torch.zeros_like(offset), weight, bias, **lopsided), expected, rtol=1e-12, atol=1e-12)
    shift = torch.zeros_like(offset[:, :2])
    torch.testing.assert_close(shifted_conv2d(input, shift, weight, bias, **lopsided), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('norm', OPERATORS)
def test_the_unit_disk_over_a_grid_changes_nothing(draw, lopsided, norm):
    input, metric, weight, bias, _ = draw('metric_conv2d')
    disk = torch.tensor(UNIT_DISK, dtype=torch.float64).view(1, 5, 1, 1).repeat(2, 3, *metric.shape[2:])
    actual = metric_conv2d(input, disk, weight, bias, support='grid', norm=norm, **lopsided)
    torch.testing.assert_close(actual, conv2d(input, weight, bias, **lopsided), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('shift', [(1, 0), (0, 1), (-2, 3)])
def test_whole_pixel_shifts_roll_the_image(shift):
    input, weight = torch.randn(1, 2, 9, 9, dtype=torch.float64), torch.randn(2, 2, 3, 3, dtype=torch.float64)
    field = torch.tensor(shift, dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 9, 9)
    rolled = torch.roll(input, (-shift[0], -shift[1]), (2, 3))
    inside = (..., slice(4, 5), slice(4, 5))  # clear of what rolls over the border
    torch.testing.assert_close(
        shifted_conv2d(input, field, weight, padding=1)[inside], conv2d(rolled, weight, padding=1)[inside], rtol=1e-12, atol=1e-12
    )


@pytest.mark.usefixtures('backend')
def test_a_support_can_be_given_as_a_tensor(draw, lopsided):
    input, metric, weight, bias, mask = draw('metric_conv2d')
    support = reference_support('grid', (3, 2), lopsided['dilation'])
    by_tensor = metric_conv2d(input, metric, weight, bias, support=support, mask=mask, **lopsided)
    torch.testing.assert_close(by_tensor, metric_conv2d(input, metric, weight, bias, support='grid', mask=mask, **lopsided), rtol=0, atol=0)


@pytest.mark.usefixtures('backend')
def test_batches_are_images_side_by_side(name, operator, draw, lopsided):
    tensors = draw(name, 33, requires_grad=True)
    input, parameter, weight, bias, mask = tensors
    images = zip(input.split(1), parameter.split(1), mask.split(1), strict=True)
    alone = [operator(name, i, p, weight, bias, m, **lopsided) for i, p, m in images]
    assert_same_values_and_gradients(operator(name, *tensors, **lopsided), torch.cat(alone), tensors)


def test_the_reference_cuts_large_batches_without_a_seam(draw, lopsided, monkeypatch):
    tensors = draw('deform_conv2d', 5, requires_grad=True)
    input, offset, weight, bias, mask = tensors
    samples_of_an_image = input.shape[1] * TAPS * offset.shape[2] * offset.shape[3]
    monkeypatch.setattr(reference, 'CACHED_SAMPLES', 2 * samples_of_an_image)  # parts of 2, 2 and 1 images
    with use_backend('reference'):
        actual = deform_conv2d(input, offset, weight, bias, mask=mask, **lopsided)
        assert_same_values_and_gradients(actual, torchvision(*tensors, **lopsided), tensors)


@pytest.mark.usefixtures('backend', 'poisoned_memory')
def test_empty_batches_are_empty(name, operator, draw, lopsided):
    tensors = draw(name, 0, requires_grad=True)
    out = operator(name, *tensors, **lopsided)
    assert out.shape == (0, 4, 3, 5)
    out.sum().backward()
    assert all(t.grad.shape == t.shape and not t.grad.any() for t in tensors)


geometries = st.fixed_dictionaries(
    {
        'kernel': st.tuples(st.integers(1, 4), st.integers(1, 4)),
        'stride': st.tuples(st.integers(1, 3), st.integers(1, 3)),
        'padding': st.tuples(st.integers(0, 3), st.integers(0, 3)),
        'dilation': st.tuples(st.integers(1, 3), st.integers(1, 3)),
        'output': st.tuples(st.integers(1, 3), st.integers(1, 3)),
        'slack': st.tuples(st.integers(0, 2), st.integers(0, 2)),
        'groups': st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)),
        'n': st.integers(1, 2),
        'masked': st.booleans(),
        'spread': st.sampled_from([0.3, 3.0, 30.0]),
    }
)


@pytest.mark.usefixtures('backend')
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=geometries)
def test_any_geometry_is_torchvisions(case):
    kernel, stride, padding, dilation = case['kernel'], case['stride'], case['padding'], case['dilation']
    groups, offset_groups, per_output = case['groups']
    # an image that gives the output asked for, some rows and columns that no window reaches, and at least one pixel
    height, width = (
        max(1, (o - 1) * s + d * (k - 1) + 1 - 2 * p + min(slack, s - 1))
        for o, s, d, k, p, slack in zip(case['output'], stride, dilation, kernel, padding, case['slack'], strict=True)
    )
    channels, taps, n = groups * offset_groups, kernel[0] * kernel[1], case['n']
    input = torch.randn(n, channels, height, width, dtype=torch.float64)
    weight = torch.randn(groups * per_output, offset_groups, *kernel, dtype=torch.float64)
    size = conv2d(input, weight, None, stride, padding, dilation, groups).shape[2:]
    offset = case['spread'] * torch.randn(n, offset_groups * 2 * taps, *size, dtype=torch.float64)
    mask = torch.randn(n, offset_groups * taps, *size, dtype=torch.float64) if case['masked'] else None
    tensors = [t.requires_grad_() for t in (input, offset, weight, mask) if t is not None]
    geometry = {'stride': stride, 'padding': padding, 'dilation': dilation, 'groups': groups}
    actual = deform_conv2d(input, offset, weight, mask=mask, **geometry)
    assert_same_values_and_gradients(actual, torchvision(input, offset, weight, None, mask, **geometry), tensors)

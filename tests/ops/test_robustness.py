"""Positions and values that are huge, infinite or not a number."""

import math

import pytest
import torch
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from metricconv_mm.functional import deform_conv2d, metric_conv2d, shifted_conv2d
from metricconv_mm.geometry import NORMS

pytestmark = pytest.mark.usefixtures('backend')
FAR = [1e30, -1e30, 3e9, -3e9, math.inf, -math.inf]
every_norm = pytest.mark.parametrize('norm', sorted(NORMS))
floating = pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)


@pytest.mark.parametrize('far', FAR)
@pytest.mark.parametrize('component', [0, 1])
@pytest.mark.parametrize('name', ['shifted_conv2d', 'deform_conv2d'])
@floating
def test_samples_far_outside_are_zero(name, operator, far, component, dtype):
    taps = 9 if name == 'deform_conv2d' else 1
    parameter = torch.zeros(1, taps, 2, 4, 4, dtype=dtype)
    parameter[:, :, component] = far
    parameter = parameter.flatten(1, 2).requires_grad_()
    image, weight = torch.rand(1, 2, 4, 4, dtype=dtype, requires_grad=True), torch.rand(1, 2, 3, 3, dtype=dtype, requires_grad=True)
    bias = torch.full((1,), 0.5, dtype=dtype, requires_grad=True)
    out = operator(name, image, parameter, weight, bias, padding=(1, 1))
    assert torch.equal(out, torch.full_like(out, 0.5))
    out.sum().backward()
    assert not any(t.grad.any() for t in (image, parameter, weight)) and bias.grad.item() == out.numel()


@pytest.mark.parametrize('far', FAR)
def test_one_far_sample_spoils_no_other(far):
    image, weight = torch.rand(1, 1, 5, 5, dtype=torch.float64), torch.rand(1, 1, 3, 3, dtype=torch.float64)
    offset = torch.randn(1, 18, 5, 5, dtype=torch.float64)
    offset[:, 8:10] = far  # the tap in the middle
    without = weight.clone()
    without[..., 1, 1] = 0
    torch.testing.assert_close(deform_conv2d(image, offset, weight, padding=1), deform_conv2d(image, offset.clamp(-9, 9), without, padding=1))


@floating
@every_norm
def test_metrics_of_zero_reach_far_and_stay_finite(norm, dtype):
    metric = torch.zeros(1, 5, 3, 3, dtype=dtype, requires_grad=True)
    image = torch.rand(1, 1, 5, 5, dtype=dtype, requires_grad=True)
    weight = torch.rand(1, 1, 3, 3, dtype=dtype, requires_grad=True)
    out = metric_conv2d(image, metric, weight, norm=norm)
    torch.testing.assert_close(out, image[..., 1:-1, 1:-1] * weight[..., 1, 1])  # the centre alone stays inside
    out.sum().backward()
    assert all(t.grad.isfinite().all() for t in (metric, image, weight))


@floating
@every_norm
def test_any_metric_is_survived(norm, dtype):
    """No crash and no read out of bounds, whatever the numbers."""
    wild = torch.tensor([0, -1, 1e-30, -1e30, 1e30, math.inf, -math.inf, math.nan], dtype=dtype)
    metric = wild[torch.randint(len(wild), (2, 5, 8, 8))].requires_grad_()
    image = torch.rand(2, 2, 8, 8, dtype=dtype, requires_grad=True)
    weight = torch.rand(2, 2, 3, 3, dtype=dtype, requires_grad=True)
    out = metric_conv2d(image, metric, weight, padding=1, norm=norm)
    out.sum().backward()
    assert out.shape == (2, 2, 8, 8) and all(t.grad.shape == t.shape for t in (image, metric, weight))


def test_nan_positions_are_nan_in_their_pixel_alone(name, operator, draw, lopsided):
    input, parameter, weight, bias, mask = draw(name)
    expected = operator(name, input, parameter, weight, bias, mask, **lopsided)
    bad = parameter.clone()
    bad[1, :, 2, 3] = math.nan
    bad.requires_grad_(), input.requires_grad_()
    out = operator(name, input, bad, weight, bias, mask, **lopsided)
    assert out[1, :, 2, 3].isnan().all()
    good = torch.ones_like(out, dtype=torch.bool)
    good[1, :, 2, 3] = False
    torch.testing.assert_close(out[good], expected[good])
    out.sum().backward()
    assert bad.grad[1, :, 2, 3].isnan().any()
    bad.grad[1, :, 2, 3] = 0
    assert bad.grad.isfinite().all() and input.grad[0].isfinite().all()


@pytest.mark.parametrize('known', [0.5, -9.0, 1e30, -math.inf])
@pytest.mark.parametrize('component', [0, 1])
def test_half_a_position_is_no_position(component, known):
    """Not even where the other half lies outside of the image."""
    shift = torch.full((1, 2, 3, 3), known, dtype=torch.float64)
    shift[0, component, 1, 1] = math.nan
    out = shifted_conv2d(torch.rand(1, 1, 3, 3, dtype=torch.float64), shift, torch.ones(1, 1, 1, 1, dtype=torch.float64))
    assert out[0, 0, 1, 1].isnan() and out.isnan().sum() == 1


@pytest.mark.parametrize('channel', range(5))
@every_norm
def test_nan_in_any_channel_of_a_metric_shows(random_metric, norm, channel):
    metric = random_metric(1, 5, 5, norm=norm)
    metric[0, channel, 2, 2] = math.nan
    out = metric_conv2d(torch.rand(1, 1, 5, 5, dtype=torch.float64), metric, torch.ones(1, 1, 3, 3, dtype=torch.float64), padding=1, norm=norm)
    assert out[0, 0, 2, 2].isnan() and out.isnan().sum() == 1


@pytest.mark.parametrize('pixel', [(0, 0), (3, 2), (5, 5)])
@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_bad_pixels_show_where_they_are_neighbours_alone(pixel, value):
    row, column = pixel
    image, shift = torch.rand(1, 1, 6, 6, dtype=torch.float64), 8 * torch.randn(1, 2, 6, 6, dtype=torch.float64)
    image[0, 0, row, column] = value
    weight = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    out = shifted_conv2d(image, shift, weight)[0, 0]
    grid = torch.arange(6, dtype=torch.float64)
    y, x = grid[:, None] + shift[0, 0], grid + shift[0, 1]
    neighbour = ((y - row).abs() < 1) & ((x - column).abs() < 1)
    assert torch.equal(~out.isfinite(), neighbour)
    assert torch.equal(out.isfinite(), torchvision_deform_conv2d(image, shift, weight)[0, 0].isfinite())


def test_bad_images_leave_the_rest_of_the_batch_alone(name, operator, draw, lopsided):
    input, parameter, weight, bias, mask = draw(name, 3)
    expected = operator(name, input, parameter, weight, bias, mask, **lopsided)
    spoiled = input.clone()
    spoiled[1] = math.nan
    spoiled.requires_grad_(), parameter.requires_grad_()
    out = operator(name, spoiled, parameter, weight, bias, mask, **lopsided)
    torch.testing.assert_close(out[::2], expected[::2])
    assert out[1].isnan().any()
    out.sum().backward()
    assert spoiled.grad[::2].isfinite().all() and parameter.grad[::2].isfinite().all()


def test_nan_in_the_mask_shows(draw, lopsided):
    input, offset, weight, bias, mask = draw('deform_conv2d')
    mask[0, :, 1, 1] = math.nan
    out = deform_conv2d(input, offset, weight, bias, mask=mask, **lopsided)
    assert out[0, :, 1, 1].isnan().all() and out.isnan().sum() == out.shape[1]

"""Unit geodesic balls: the paper's heat flow against a loop over pixels, facts that are known, and what local windows leave out."""

import math

import pytest
import torch
from torch.nn.functional import grid_sample

from metricconv_mm.geometry import dual, geodesic, geodesic_ball, geodesic_window, gradient_metric, randers_norm, tangent_ball
from metricconv_mm.geometry.flow import TOLERANCE, flow_of
from metricconv_mm.geometry.heat import heat_kernels

TIMES = {'heat_step': 0.1, 'heat_time': 0.3, 'flow_step': 0.1, 'flow_time': 0.5}
FIGURE_5 = {'heat_step': 0.1, 'heat_time': 0.5, 'flow_step': 0.1, 'flow_time': 1.0}
FIGURE_14 = {'heat_step': 0.01, 'heat_time': 0.1, 'flow_step': 0.01, 'flow_time': 0.1}
HEAT = ('heat_step', 'heat_time')


def constant(values, height=21, width=23, **kwargs):
    return torch.tensor(values, dtype=torch.float64).view(1, 5, 1, 1).expand(1, 5, height, width).clone()


def by_pixels(metric, size, heat_step, heat_time, flow_step, flow_time, stencil_scale=2.0, eps=1e-6):
    """Sec. D.7 as it is written: for every pixel heat over the whole image, its field, and a stencil that flows."""
    height, width = metric.shape[-2:]
    opposite, start = dual(metric), stencil_scale * tangent_ball(metric, 'polar', size, eps)
    kernels = torch.zeros(height, width, 11, 11, dtype=metric.dtype)
    for dy in range(-5, 6):
        for dx in range(-5, 6):
            v = torch.tensor([dx, dy], dtype=metric.dtype).view(1, 2, 1, 1)
            kernels[:, :, dy + 5, dx + 5] = torch.exp(-(randers_norm(opposite, v)[0] ** 2) / (4 * heat_step))
    kernels = kernels / kernels.sum((2, 3), keepdim=True)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=metric.dtype)
    flown = torch.zeros_like(start)
    for row in range(height):
        for column in range(width):
            heat = torch.zeros(height, width, dtype=metric.dtype)
            heat[row, column] = 1
            for _ in range(round(heat_time / heat_step)):
                wide = torch.nn.functional.pad(heat, (5, 5, 5, 5))
                heat = torch.stack([torch.stack([(kernels[y, x] * wide[y : y + 11, x : x + 11]).sum() for x in range(width)]) for y in range(height)])
            slope = torch.nn.functional.conv2d(heat[None, None], torch.stack([sobel, sobel.T])[:, None], padding=1)
            field = -slope / (slope.norm(dim=1, keepdim=True) + eps)
            at = start[0, :, :, row, column] + torch.tensor([column, row], dtype=metric.dtype)
            for _ in range(round(flow_time / flow_step)):
                place = 2 * at / torch.tensor([width - 1, height - 1]) - 1
                at = at + flow_step * grid_sample(field, place[None, None], align_corners=True)[0, :, 0].T
            flown[0, :, :, row, column] = at - torch.tensor([column, row], dtype=metric.dtype)
    return flown


@pytest.mark.parametrize('window', [None, 'auto', 9, 17])
def test_it_is_what_a_loop_over_pixels_computes(random_metric, window):
    metric = random_metric(1, 4, 5, eps_w=0.3)
    expected = by_pixels(metric, (3, 4), **TIMES)
    tolerance = {'rtol': 0, 'atol': 1e-10 if window is None else TOLERANCE * TIMES['flow_time'] * 3}
    torch.testing.assert_close(geodesic_ball(metric, (3, 4), window=window, **TIMES), expected, **tolerance)


@pytest.mark.parametrize('times', [FIGURE_5, FIGURE_14], ids=['figure 5', 'figure 14'])
@pytest.mark.parametrize('tau', [0.0, 0.9])
def test_windows_agree_with_the_whole_image_within_a_hundredth_of_the_radius(times, tau):
    ramp = torch.linspace(0, 5, 16, dtype=torch.float64)
    image = (torch.sin(ramp[:, None] * ramp / 3) + 0.1 * torch.randn(16, 16, dtype=torch.float64))[None, None]
    metric = gradient_metric(image, iota=1.0, anisotropy=10.0, tau=tau)
    exact, local = (geodesic_ball(metric, 5, window=window, **times) for window in (None, 'auto'))
    error, radius = (local - exact).norm(dim=2).amax(1), exact.norm(dim=2).amax(1)
    assert (error < 0.01 * radius).all() and error.max() < TOLERANCE * times['flow_time'] * 3
    assert exact.sub(2 * tangent_ball(metric, 'polar', 5)).norm(dim=2).max() > 0.5 * times['flow_time']


def test_the_smallest_window_is_enough_and_a_smaller_one_says_so(random_metric):
    metric = random_metric(2, 16, 18, eps_w=0.5)
    side = geodesic_window(metric, **{name: TIMES[name] for name in HEAT})
    assert side % 2 == 1 and 3 < side < 31
    expected = geodesic_ball(metric, 3, window='auto', **TIMES)
    torch.testing.assert_close(geodesic_ball(metric, 3, window=side, **TIMES), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match=rf'window={side - 2} is too small for these times: .* fills {side} x {side} cells\. Use window={side}'):
        geodesic_ball(metric, 3, window=side - 2, **TIMES)


def test_longer_times_larger_metrics_and_smaller_flow_eps_need_larger_windows():
    metric = constant([1.0, 0, 1.0, 0, 0], 60, 60)
    side = geodesic_window(metric, heat_step=0.1, heat_time=0.2)
    assert side < geodesic_window(metric, heat_step=0.1, heat_time=0.5)
    assert side < geodesic_window(4 * metric, heat_step=0.1, heat_time=0.2)
    assert side > geodesic_window(metric, heat_step=0.1, heat_time=0.2, flow_eps=1e-2)


@pytest.mark.parametrize('window', [None, 'auto'])
def test_the_flow_of_a_disk_is_a_disk_further_out_by_the_flow_time(window):
    """Away from the pixel V has length one and points outward: circles of the Euclidean metric stay circles."""
    metric = constant([0.25, 0, 0.25, 0, 0], 25, 25) * torch.tensor([1, 1, 1, 0, 0]).view(1, 5, 1, 1)
    times = {'heat_step': 1.0, 'heat_time': 4.0, 'flow_step': 0.05, 'flow_time': 1.0}
    samples = geodesic_ball(metric, (1, 24), stencil_scale=1.0, window=window, **times)[0, :, :, 12, 12]
    assert samples.norm(dim=1).sub(2 + times['flow_time']).abs().max() < 0.06
    direction = tangent_ball(metric, 'polar', (1, 24))[0, :, :, 12, 12] / 2
    assert (samples / samples.norm(dim=1, keepdim=True) - direction).norm(dim=1).max() < 0.06


def test_without_time_it_is_the_tangent_ball(random_metric):
    metric = random_metric(2, 6, 5)
    for times in ({**TIMES, 'flow_time': 0.0}, {**TIMES, 'flow_time': 0.05}):
        samples = geodesic_ball(metric, (3, 2), stencil_scale=1.5, window='auto', **times)
        torch.testing.assert_close(samples, 1.5 * tangent_ball(metric, 'polar', (3, 2)), rtol=0, atol=0)
    still = geodesic_ball(metric, (3, 2), **{**TIMES, 'heat_time': 0.0})  # the heat of the Dirac itself
    assert (still - 2 * tangent_ball(metric, 'polar', (3, 2))).norm(dim=2).max() <= TIMES['flow_time']


def test_a_constant_metric_gives_the_same_ball_everywhere_but_at_the_border():
    samples = geodesic_ball(constant([0.8, 0.2, 1.1, 0.3, -0.2]), 4, window='auto', **TIMES)
    inside = samples[..., 8:-8, 8:-8]
    torch.testing.assert_close(inside, inside[..., :1, :1].expand_as(inside))


def test_randers_balls_lean_against_the_drift_and_its_heat_runs_with_the_dual():
    plain, drifted = constant([1.0, 0, 1.0, 0, 0]), constant([1.0, 0, 1.0, 0.5, 0])
    samples = geodesic_ball(drifted, (1, 8), window=None, **TIMES)[0, :, :, 10, 11]
    assert samples[:, 0].mean() < -0.3 and samples[:, 1].mean().abs() < 1e-9
    # 0 is the direction of the drift, 4 the one against it
    unit = tangent_ball(drifted, 'polar', (1, 8), eps=0)[0, :, :, 10, 11]
    torch.testing.assert_close(unit[[0, 4], 0], torch.tensor([1 / 1.5, -2.0], dtype=torch.float64))
    assert 2 * unit[0, 0] < samples[0, 0] <= 2 * unit[0, 0] + TIMES['flow_time']
    assert 2 * unit[4, 0] - TIMES['flow_time'] <= samples[4, 0] < 2 * unit[4, 0]
    mirrored = geodesic_ball(drifted * torch.tensor([1, 1, 1, -1, 1]).view(1, 5, 1, 1), (1, 8), window=None, **TIMES)[0, :, :, 10, 11]
    torch.testing.assert_close(mirrored[4] * torch.tensor([-1, 1]), samples[0])
    assert (geodesic_ball(plain, (1, 8), **TIMES)[0, :, :, 10, 11].mean(0)).abs().max() < 1e-9


def test_turning_the_image_turns_the_balls(random_metric):
    metric = random_metric(1, 6, 7, eps_w=0.3)
    # transposed: x and y change places, so do the angles theta and pi / 2 - theta of a support of 4 angles
    turned = metric[:, [2, 1, 0, 4, 3]].transpose(2, 3)
    samples, other = (geodesic_ball(m, (2, 4), window='auto', **TIMES).unflatten(1, (2, 4)) for m in (metric, turned))
    torch.testing.assert_close(other, samples[:, :, [1, 0, 3, 2]].flip(3).transpose(4, 5))


def test_a_pixel_far_away_does_not_matter(random_metric):
    metric = random_metric(1, 12, 40, eps_w=0.5)
    reach = geodesic_window(metric, **{name: TIMES[name] for name in HEAT}) // 2 + 1
    other = metric.clone()
    other[..., -1] = random_metric(1, 12, 1, eps_w=0.5)[..., 0]
    reach = max(reach, geodesic_window(other, **{name: TIMES[name] for name in HEAT}) // 2 + 1)
    samples, changed = (geodesic_ball(m, 3, window='auto', **TIMES) for m in (metric, other))
    assert 2 * reach < 40
    torch.testing.assert_close(changed[..., :-reach], samples[..., :-reach], rtol=0, atol=1e-12)
    assert not torch.allclose(changed[..., -1], samples[..., -1])


def test_spacing_is_the_distance_of_metrics(random_metric):
    """Metrics two pixels apart are metrics one apart in units of two pixels."""
    metric = random_metric(1, 7, 6, eps_w=0.5)
    halved = torch.cat([metric[:, :3] / 4, metric[:, 3:] / 2], 1)  # whose dual norm at v is that of metric at 2 v
    flow = flow_of(0.1, 0.3, 0.05, 0.25, 2e-6, window=None)
    expected = 2 * geodesic.flow_samples(heat_kernels(halved, 0.1), tangent_ball(metric, 'polar', 3), flow)
    torch.testing.assert_close(geodesic_ball(metric, 3, spacing=2, window=None, **TIMES), expected)
    rows, columns = (
        geodesic_ball(m, (1, 4), spacing=s, **TIMES) for m, s in ((metric, (2, 1)), (metric[:, [2, 1, 0, 4, 3]].transpose(2, 3), (1, 2)))
    )
    torch.testing.assert_close(columns, rows[:, [1, 0, 3, 2]].flip(2).transpose(3, 4))


@pytest.mark.parametrize('window', [None, 'auto'])
def test_gradients_are_the_slopes(random_metric, window):
    metric = random_metric(1, 2, 3, eps_w=0.5).requires_grad_()
    times = {**TIMES, 'heat_time': 0.2, 'flow_time': 0.2, 'flow_eps': 1e-2}
    assert torch.autograd.gradcheck(lambda m: geodesic_ball(m, (1, 3), window=window, **times), metric)


def test_chunks_change_nothing(random_metric, monkeypatch):
    metric = random_metric(3, 4, 3, eps_w=0.5).requires_grad_()
    expected = geodesic_ball(metric, 3, window='auto', **TIMES)
    cotangent = torch.randn_like(expected)
    (grad,) = torch.autograd.grad(expected, metric, cotangent)
    window = 121 * 7 * 5  # elements of the kernels over the window of a pixel
    for elements in (1, window * 3 * 3, window * 12 * 2):
        monkeypatch.setattr(geodesic, 'CHUNK', elements)
        samples = geodesic_ball(metric, 3, window='auto', **TIMES)
        torch.testing.assert_close(samples, expected, rtol=0, atol=1e-14)
        torch.testing.assert_close(torch.autograd.grad(samples, metric, cotangent)[0], grad)


@pytest.mark.parametrize('shape', [(0, 4, 3), (2, 0, 3), (1, 1, 1), (2, 1, 5), (1, 7, 1)], ids=str)
@pytest.mark.parametrize('window', [None, 'auto', 41])
def test_any_size_and_kernels_larger_than_the_image(random_metric, shape, window):
    metric = random_metric(1, 1, 1).expand(shape[0], 5, *shape[1:]).clone().requires_grad_()
    samples = geodesic_ball(metric, (9, 2), window=window, **TIMES)
    assert samples.shape == (shape[0], 18, 2, *shape[1:]) and samples.isfinite().all()
    samples.sum().backward()
    assert metric.grad.isfinite().all()
    assert geodesic_window(metric.detach(), **{name: TIMES[name] for name in HEAT}) >= 1


def test_float32_is_as_good_as_its_rounding(random_metric):
    metric = random_metric(1, 12, 12, eps_w=0.5)
    exact, rounded = (
        geodesic_ball(metric, 3, window='auto', flow_eps=1e-3, **TIMES),
        geodesic_ball(metric.float(), 3, window='auto', flow_eps=1e-3, **TIMES),
    )
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.double(), exact, rtol=0, atol=1e-3)


def test_nan_reaches_no_further_than_its_window(random_metric):
    metric = random_metric(2, 30, 9, eps_w=0.5)
    metric[1, 0, 0, 4] = math.nan
    clean = metric.nan_to_num(1.0)
    side = geodesic_window(metric, **{name: TIMES[name] for name in HEAT})
    samples, expected = (geodesic_ball(m, 3, window='auto', **TIMES) for m in (metric, clean))
    assert samples[1, :, :, 0, 4].isnan().all()
    torch.testing.assert_close(samples[0], expected[0])
    torch.testing.assert_close(samples[1, :, :, side:], expected[1, :, :, side:])

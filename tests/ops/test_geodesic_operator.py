"""geodesic_ball as an operator: it is what geometry says, whichever backend runs it."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metricconv_mm import geometry, use_backend
from metricconv_mm.functional import geodesic_ball, geodesic_conv2d
from metricconv_mm.ops import BACKENDS, backends

TIMES = {'heat_step': 0.1, 'heat_time': 0.2, 'flow_step': 0.1, 'flow_time': 0.3, 'flow_eps': 1e-3}
CONSTANTS = (0.1, 2.0, 1e-6, 2, 0.1, 3, 1e-3, 1e-9, [2, 1], None)


@pytest.fixture(params=['cpu', 'reference'])
def flow_backend(request):
    """Every backend that has the operator."""
    if BACKENDS[request.param].missing():
        pytest.skip(BACKENDS[request.param].missing())
    with use_backend(request.param):
        yield request.param


def assert_is_geometry(metric, size, tolerance=1e-9, **arguments):
    groups = metric.shape[1] // 5
    actual = geodesic_ball(metric, size, **arguments)
    expected = geometry.geodesic_ball(metric.reshape(metric.shape[0] * groups, 5, *metric.shape[2:]), size, **arguments)
    expected = expected.reshape(metric.shape[0], groups * expected.shape[1], 2, *metric.shape[2:])
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
    grad = torch.randn_like(expected)
    one, other = (torch.autograd.grad(samples, metric, grad)[0] for samples in (actual, expected))
    scale = other.abs().max().item() if other.numel() else 0
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance * (1 + scale))


@pytest.mark.usefixtures('flow_backend', 'poisoned_memory')
@pytest.mark.parametrize('window', [None, 'auto', 33])
@pytest.mark.parametrize('support', ['polar', 'onion', 'grid'])
def test_it_is_geometrys(random_metric, window, support):
    metric = random_metric(1, 3, 18, groups=2, eps_w=0.3).requires_grad_()
    assert_is_geometry(metric, 3, window=window, support=support, spacing=(1, 2), stencil_scale=1.5, **TIMES)


@pytest.mark.usefixtures('flow_backend', 'poisoned_memory')
@pytest.mark.parametrize('shape', [(0, 3, 3), (1, 0, 3), (1, 1, 1), (3, 1, 7), (1, 9, 1), (1, 2, 40)], ids=str)
def test_any_size(random_metric, shape):
    metric = random_metric(1, 1, 1).expand(shape[0], 5, *shape[1:]).clone().requires_grad_()
    assert_is_geometry(metric, (2, 5), window='auto', **TIMES)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 18)),
    times=st.fixed_dictionaries(
        {
            'heat_step': st.sampled_from([0.02, 0.3, 2.0]),
            'flow_step': st.sampled_from([0.1, 0.7, 3.0]),
            'flow_eps': st.sampled_from([1e-5, 1e-2]),
            'stencil_scale': st.sampled_from([0.3, 4.0]),
            'spacing': st.sampled_from([1, (3, 1)]),
            'window': st.sampled_from([None, 'auto']),
        }
    ),
    steps=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    seed=st.integers(0, 2**31),
)
@pytest.mark.usefixtures('poisoned_memory')
def test_any_call_is_geometrys(random_metric, shape, times, steps, seed):
    torch.manual_seed(seed)
    metric = random_metric(*shape, eps_w=0.3).requires_grad_()
    durations = {'heat_time': steps[0] * times['heat_step'], 'flow_time': steps[1] * times['flow_step']}
    assert_is_geometry(metric, 3, 1e-7, **times, **durations)


@pytest.mark.usefixtures('flow_backend')
def test_float32_loses_no_more_than_geometry_does(random_metric):
    exact = random_metric(2, 9, 18, eps_w=0.5)
    arguments = {**TIMES, 'window': 'auto'}
    truth = geometry.geodesic_ball(exact, 3, **arguments)
    errors = [(ball(exact.float(), 3, **arguments).double() - truth).square().mean().sqrt() for ball in (geodesic_ball, geometry.geodesic_ball)]
    assert errors[0] <= 2 * errors[1] + 1e-7


@pytest.mark.usefixtures('flow_backend')
def test_second_derivatives_are_the_slopes_of_gradients(random_metric):
    metric = random_metric(1, 1, 2, eps_w=0.5).requires_grad_()
    arguments = {**TIMES, 'flow_time': 0.1, 'flow_eps': 1e-1}
    assert torch.autograd.gradcheck(lambda m: geodesic_ball(m, (1, 2), **arguments), metric)
    assert torch.autograd.gradgradcheck(lambda m: geodesic_ball(m, (1, 2), **arguments), metric)


@pytest.mark.usefixtures('flow_backend')
def test_a_window_that_heat_leaves_is_an_error_with_the_one_that_fits(random_metric):
    metric = random_metric(1, 12, 20)
    side = geometry.geodesic_window(metric, heat_step=0.1, heat_time=0.2, flow_eps=1e-3)
    geodesic_ball(metric, 3, window=side, **TIMES)
    with pytest.raises(ValueError, match=f'window=3 is too small for these times: .* Use window={side}'):
        geodesic_ball(metric, 3, window=3, **TIMES)


@pytest.mark.usefixtures('flow_backend')
def test_images_of_a_batch_do_not_meet(random_metric):
    metric = random_metric(3, 6, 17)
    expected = torch.cat([geodesic_ball(part, 3, **TIMES) for part in metric.split(1)])
    torch.testing.assert_close(geodesic_ball(metric, 3, **TIMES), expected, rtol=0, atol=1e-13)
    metric[1, 2, 3, 3] = math.nan
    samples = geodesic_ball(metric, 3, **TIMES)
    assert samples[1, :, :, 3, 3].isnan().all()
    torch.testing.assert_close(samples[::2], expected[::2], rtol=0, atol=1e-13)


def test_threads_compute_the_same(random_metric):
    metric = random_metric(1, 13, 18, eps_w=0.5).requires_grad_()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            samples = geodesic_ball(metric, 3, **TIMES)
            results.append((samples, torch.autograd.grad(samples.square().sum(), metric)[0]))
    finally:
        torch.set_num_threads(before)
    for samples, grad in results[1:]:
        torch.testing.assert_close(samples, results[0][0])
        torch.testing.assert_close(grad, results[0][1])


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_opcheck(random_metric, dtype):
    metric = random_metric(1, 3, 4, eps_w=0.5, dtype=dtype).requires_grad_()
    support = geometry.reference_support('polar', 2, dtype=dtype)
    torch.library.opcheck(torch.ops.metricconv_mm.geodesic_ball.default, (metric, support, *CONSTANTS))


def test_autocast_changes_nothing(random_metric):
    metric = random_metric(1, 5, 6, eps_w=0.5, dtype=torch.float32).requires_grad_()
    expected = geodesic_ball(metric, 3, **TIMES)
    with torch.autocast('cpu', torch.bfloat16):
        samples = geodesic_ball(metric, 3, **TIMES)
        (grad,) = torch.autograd.grad(samples.sum(), metric)
    torch.testing.assert_close(samples, expected, rtol=0, atol=0)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), metric)[0], rtol=0, atol=0)


def test_metric_alone_is_kept_for_backward(random_metric):
    kept, metric = [], random_metric(2, 6, 5, dtype=torch.float32).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        geodesic_ball(metric, 3, **TIMES)
    assert sum(t.numel() for t in kept) == metric.numel() + 9 * 3


def test_a_backend_without_it_says_so(monkeypatch, random_metric):
    monkeypatch.setitem(backends.BACKENDS, 'reference', replace(BACKENDS['reference'], flow=None))
    with use_backend('reference'), pytest.raises(RuntimeError, match='reference: it has no geodesic_ball'):
        geodesic_ball(random_metric(), 3, **TIMES)


@pytest.mark.parametrize('groups', [1, 2])
def test_the_convolution_is_a_deformable_one_at_its_samples(random_metric, groups):
    image, weight, bias = torch.randn(2, 4, 9, 8).double(), torch.randn(6, 2, 3, 2).double(), torch.randn(6).double()
    geometry_of = {'stride': (2, 1), 'padding': (1, 2), 'dilation': (1, 2)}
    rows, columns = torch.nn.functional.conv2d(image, weight, groups=2, **geometry_of).shape[2:]
    metric, mask = random_metric(2, rows, columns, groups=groups, eps_w=0.5), torch.rand(2, 6 * groups, rows, columns).double()
    out = geodesic_conv2d(image, metric, weight, bias, groups=2, mask=mask, **geometry_of, **TIMES)
    samples = geodesic_ball(metric, (3, 2), spacing=(2, 1), **TIMES).unflatten(1, (groups, 6))
    expected = torch.zeros_like(out)
    for tap in range(6):
        # one tap after another, as a kernel of a single element at its centre
        y = torch.arange(rows) * 2 - 1 + 1.0
        x = torch.arange(columns) - 2 + 1.0
        for g in range(groups):
            place = samples[:, g, tap] + torch.stack([x.expand(rows, -1), y.unsqueeze(1).expand(-1, columns)])
            place = 2 * place / torch.tensor([7.0, 8.0]).view(2, 1, 1) - 1
            part = slice(g * 4 // groups, (g + 1) * 4 // groups)
            read = torch.zeros(2, 4, rows, columns, dtype=torch.float64)
            read[:, part] = torch.nn.functional.grid_sample(image[:, part], place.movedim(1, -1), align_corners=True)
            read = read * mask.unflatten(1, (groups, 6))[:, g, tap].unsqueeze(1)
            expected += torch.nn.functional.conv2d(read, weight[:, :, tap // 2, tap % 2, None, None], groups=2)
    torch.testing.assert_close(out, expected + bias.view(1, -1, 1, 1))


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_errors_say_what_fits(device):
    with pytest.raises(ValueError, match=r'expected metric \[N, 5 x groups, H, W\], got metric.shape=\(1, 4, 2, 2\)'):
        geodesic_ball(torch.ones(1, 4, 2, 2, device=device), 3, **TIMES)
    with pytest.raises(TypeError, match=r'expected metric in float32 or float64, got metric.dtype=torch.bfloat16'):
        geodesic_ball(torch.ones(1, 5, 2, 2, dtype=torch.bfloat16, device=device), 3, **TIMES)
    with pytest.raises(ValueError, match='expected stencil_scale >= 0'):
        geodesic_ball(torch.ones(1, 5, 2, 2, device=device), 3, stencil_scale=math.nan, **TIMES)
    with pytest.raises(ValueError, match=r'expected weight \[C_out, C_in / groups, rows, columns\]'):
        geodesic_conv2d(torch.ones(1, 1, 2, 2), torch.ones(1, 5, 2, 2), torch.ones(3, 3), **TIMES)
    with pytest.raises(ValueError, match=r'expected metric \[N, 5 x groups, 2, 2\].* got metric.shape=\(1, 5, 3, 3\)'):
        geodesic_conv2d(torch.ones(1, 1, 2, 2, device=device), torch.ones(1, 5, 3, 3, device=device), torch.ones(1, 1, 1, 1, device=device), **TIMES)
    image, metric, weight = torch.ones(1, 1, 2, 2, device=device), torch.ones(1, 5, 2, 2, device=device), torch.ones(1, 1, 3, 3, device=device)
    metric[:, 1:2] = metric[:, 3:] = 0
    with pytest.raises(ValueError, match=r'expected input \[N, C, H, W\]'):
        geodesic_conv2d(image[0], metric, weight, padding=1, **TIMES)
    with pytest.raises(ValueError, match='no window fits'):
        geodesic_conv2d(image, metric, weight, **TIMES)
    with pytest.raises(ValueError, match='expected a spacing of at least 1 pixel, got spacing=0'):
        geodesic_conv2d(image, metric, weight, stride=0, **TIMES)

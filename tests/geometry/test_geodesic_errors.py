"""What unit geodesic balls refuse, and what they do not."""

import math

import pytest
import torch

from metricconv_mm.geometry import geodesic_ball

TIMES = {'heat_step': 0.1, 'heat_time': 0.3, 'flow_step': 0.1, 'flow_time': 0.5}


def constant_metric(values, height, width):
    return torch.tensor(values, dtype=torch.float64).view(1, 5, 1, 1).repeat(1, 1, height, width)


@pytest.mark.parametrize('matrix', [[0.0, 0.0, 0.0], [-1.0, 0.0, -1.0], [1.0, 2.0, 1.0], [1.0, 0.0, -1.0]])
def test_matrices_that_are_not_definite_are_refused(matrix):
    metric = constant_metric([1.0, 0, 1.0, 0, 0], 3, 3)
    metric[0, :3, 1, 2] = torch.tensor(matrix)
    with pytest.raises(ValueError, match='expected a positive metric, m_xx > 0.* not at 1 of 9 pixels'):
        geodesic_ball(metric, 3, **TIMES)


def test_nan_is_not_hidden():
    metric = constant_metric([1.0, 0, 1.0, 0, 0], 3, 3)
    metric[0, 0, 1, 2] = math.nan
    assert geodesic_ball(metric, 3, **TIMES)[..., 1, 2].isnan().any()


@pytest.mark.parametrize('norm', [1.0, 1.5])
def test_drifts_that_are_too_long_are_refused(norm):
    metric = constant_metric([1.0, 0, 1.0, norm, 0], 3, 3)
    with pytest.raises(ValueError, match=rf'expected a positive metric, .* got one of {norm:.3g}: shorten the drift with geometry.clip_drift'):
        geodesic_ball(metric, 3, **TIMES)


def test_drifts_close_to_one_are_finite():
    metric = constant_metric([1.0, 0, 1.0, 0.999, 0], 9, 9).requires_grad_()
    samples = geodesic_ball(metric, 3, window='auto', flow_eps=1e-3, **TIMES)
    assert samples.isfinite().all()
    samples.sum().backward()
    assert metric.grad.isfinite().all()


ERRORS = {
    'channels': (torch.ones(1, 4, 2, 2), {}, r'expected a floating point metric'),
    'dimensions': (torch.ones(5, 2, 2), {}, r'expected metric \[N, 5, H, W\], got metric.shape=\(5, 2, 2\)'),
    'heat step': (torch.ones(1, 5, 2, 2), {'heat_step': 0.0}, 'expected heat_step > 0, got heat_step=0.0'),
    'flow step': (torch.ones(1, 5, 2, 2), {'flow_step': math.nan}, 'expected flow_step > 0, got flow_step=nan'),
    'heat time': (torch.ones(1, 5, 2, 2), {'heat_time': -1.0}, 'expected heat_time >= 0.*got heat_time=-1.0'),
    'flow time': (torch.ones(1, 5, 2, 2), {'flow_time': math.inf}, 'expected flow_time >= 0.*got flow_time=inf'),
    'flow_eps': (torch.ones(1, 5, 2, 2), {'flow_eps': 0.0}, 'expected flow_eps > 0, got flow_eps=0.0'),
    'even window': (torch.ones(1, 5, 2, 2), {'window': 8}, "expected window as an odd number of pixels, 'auto', or None .* got window=8"),
    'window by name': (torch.ones(1, 5, 2, 2), {'window': 'all'}, "got window='all'"),
    'spacing': (torch.ones(1, 5, 2, 2), {'spacing': 0}, 'expected a spacing of at least 1 pixel, got spacing=0'),
    'support': (torch.ones(1, 5, 2, 2), {'support': 'star'}, "unknown support='star'"),
    'heat steps': (
        torch.ones(1, 5, 2, 2),
        {'heat_step': 1e-30},
        'at most 10000 steps, got heat_time / heat_step = .*: shorten heat_time, or lengthen heat_step',
    ),
    'flow steps': (torch.ones(1, 5, 2, 2), {'flow_time': 1e9}, 'at most 10000 steps, got flow_time / flow_step'),
    'negative stencil': (torch.ones(1, 5, 2, 2), {'stencil_scale': -1.0}, 'expected stencil_scale >= 0 .*got stencil_scale=-1.0'),
    'endless stencil': (torch.ones(1, 5, 2, 2), {'stencil_scale': math.inf}, 'both finite, got stencil_scale=inf'),
    'eps': (torch.ones(1, 5, 2, 2), {'eps': math.nan}, 'got .*eps=nan'),
}


@pytest.mark.parametrize(('metric', 'arguments', 'words'), ERRORS.values(), ids=ERRORS)
def test_errors_say_what_fits(metric, arguments, words):
    if metric.dim() == 4 and metric.shape[1] == 5:
        metric = constant_metric([1.0, 0, 1.0, 0, 0], 2, 2)
    with pytest.raises(ValueError, match=words):
        geodesic_ball(metric, 3, **{**TIMES, **arguments})

"""The geodesic ball of one pixel, of a field of any size."""

import pytest
import torch

from metricconv_mm.geometry import geodesic_ball, geodesic_ball_at, gradient_metric, reference_support

TIMES = {'heat_step': 0.1, 'heat_time': 0.3, 'flow_step': 0.1, 'flow_time': 0.5}


def constant(values, height, width):
    return torch.tensor(values, dtype=torch.float64).view(1, 5, 1, 1).expand(1, 5, height, width)


@pytest.mark.parametrize(('row', 'column'), [(0, 0), (20, 70), (40, 99)])
@pytest.mark.parametrize('spacing', [1, (2, 3)])
def test_the_ball_of_one_pixel_is_that_of_the_field(row, column, spacing):
    metric = gradient_metric(torch.rand(1, 1, 41, 100, dtype=torch.float64), iota=1.0, anisotropy=10.0, tau=0.5)
    whole = geodesic_ball(metric, 3, **TIMES, spacing=spacing, window='auto')[0, :, :, row, column]
    # heat gets 15 cells far in three steps: what lies beyond is not read
    y, x = torch.meshgrid(torch.arange(41), torch.arange(100), indexing='ij')
    metric[..., ((y - row).abs() > 18) | ((x - column).abs() > 18)] = 1e9
    alone = geodesic_ball_at(metric, row, column, reference_support('polar', 3), **TIMES, spacing=spacing)
    assert torch.allclose(alone, whole, atol=1e-9)


def test_the_ball_of_a_pixel_that_is_none_is_refused():
    support = reference_support('polar', 3)
    with pytest.raises(ValueError, match=r'a field of 4 x 5, got \(4, 0\)'):
        geodesic_ball_at(constant([1, 0, 1, 0, 0], 4, 5), 4, 0, support, **TIMES)
    with pytest.raises(ValueError, match='the metric of one image'):
        geodesic_ball_at(constant([1, 0, 1, 0, 0], 4, 5).expand(2, -1, -1, -1), 0, 0, support, **TIMES)
    with pytest.raises(ValueError, match='expected a positive metric'):
        geodesic_ball_at(constant([1, 0, 1, 2, 0], 4, 5), 0, 0, support, **TIMES)

"""Randers metrics: norm, positivity, dual."""

import math

import pytest
import torch

from metricconv_mm.geometry import anisotropy, ball_radius, drift_norm, dual, is_positive, randers_norm, tangent_ball


def as_metric(m_xx, m_xy, m_yy, w_x=0.0, w_y=0.0):
    return torch.tensor([m_xx, m_xy, m_yy, w_x, w_y], dtype=torch.float64).view(5, 1, 1)


def matrix_and_drift(metric):
    """M ``[..., H, W, 2, 2]`` and w ``[..., H, W, 2]``."""
    m_xx, m_xy, m_yy, w_x, w_y = metric.unbind(-3)
    return torch.stack([m_xx, m_xy, m_xy, m_yy], -1).unflatten(-1, (2, 2)), torch.stack([w_x, w_y], -1)


def quadratic(matrix, vector):
    return torch.einsum('...i,...ij,...j->...', vector, matrix, vector)


def directions(count):
    angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.stack([angles.cos(), angles.sin()], 1)[..., None, None]


def test_norm_is_the_formula(random_metric):
    metric = random_metric()
    u = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    matrix, w = matrix_and_drift(metric)
    v = u.movedim(1, -1)
    torch.testing.assert_close(randers_norm(metric, u), quadratic(matrix, v).sqrt() + (w * v).sum(-1))


def test_norm_is_homogeneous_for_positive_factors_only(random_metric):
    metric, u = random_metric(), torch.randn(2, 2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(randers_norm(metric, 3 * u), 3 * randers_norm(metric, u))
    assert not torch.allclose(randers_norm(metric, -u), randers_norm(metric, u))


def test_drift_norm_is_the_formula(random_metric):
    metric = random_metric()
    matrix, w = matrix_and_drift(metric)
    torch.testing.assert_close(drift_norm(metric), quadratic(torch.linalg.inv(matrix), w).sqrt())


@pytest.mark.parametrize('e', [0.05, 0.5, 1.0])
def test_norm_is_at_least_e_times_the_riemannian_norm(random_metric, e):
    metric = random_metric(eps_w=e).unsqueeze(1)
    riemannian = torch.cat([metric[:, :, :3], torch.zeros_like(metric[:, :, 3:])], 2)
    u = directions(64)
    assert (drift_norm(metric) <= 1 - e + 1e-9).all()
    assert (randers_norm(metric, u) >= (e - 1e-9) * randers_norm(riemannian, u)).all()


@pytest.mark.parametrize(
    ('metric', 'positive'),
    [
        (as_metric(4, 0, 1, 1.98, 0), True),  # ||w||_{M^-1} = 0.99
        (as_metric(4, 0, 1, 2.02, 0), False),
        (as_metric(1, 0.9, 1), True),
        (as_metric(1, 1.1, 1), False),
        (as_metric(-1, 0, -1), False),
        (as_metric(1, 0, 0), False),
        (as_metric(math.nan, 0, 1), False),
        (as_metric(1, 0, 1, math.nan, 0), False),
    ],
)
def test_positive_metrics_are_told_from_others(metric, positive):
    assert is_positive(metric).item() is positive


def test_positive_means_that_every_norm_is_positive(random_metric):
    metric = random_metric(eps_w=0.02).unsqueeze(1)
    stretched = torch.cat([metric[:, :, :3], metric[:, :, 3:] * 2 * torch.rand(2, 1, 1, 4, 3)], 2)
    by_directions = (randers_norm(stretched, directions(3600)) > 0).all(1)
    assert torch.equal(is_positive(stretched.squeeze(1)), by_directions)
    assert by_directions.any() and not by_directions.all()


def test_dual_of_the_dual_is_the_metric(random_metric):
    metric = random_metric()
    torch.testing.assert_close(dual(dual(metric)), metric)


def test_dual_keeps_the_asymmetry(random_metric):
    metric = random_metric()
    torch.testing.assert_close(drift_norm(dual(metric)), drift_norm(metric))


def test_dual_is_the_largest_product_over_the_unit_ball(random_metric):
    metric = random_metric(1, 2, 2)
    xi = torch.randn(2, 1, 1, dtype=torch.float64)
    u = directions(20_000)
    boundary = u / randers_norm(metric, u).unsqueeze(1)
    largest = (xi * boundary).sum(1).amax(0)
    # a maximum over samples misses it by the square of half their spacing at most, times the bend of the thinnest ellipse
    torch.testing.assert_close(randers_norm(dual(metric), xi)[0], largest, rtol=1e-4, atol=0)


def test_dual_of_a_riemannian_metric_is_its_inverse(random_metric):
    metric = random_metric(eps_w=1)
    matrix, w = matrix_and_drift(dual(metric))
    torch.testing.assert_close(matrix, torch.linalg.inv(matrix_and_drift(metric)[0]))
    assert not w.any()


def test_gradients_of_norms_and_dual(random_metric):
    metric = random_metric(1, 1, 2).requires_grad_()
    u = torch.randn(1, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(randers_norm, (metric, u))
    assert torch.autograd.gradcheck(drift_norm, metric)
    assert torch.autograd.gradcheck(dual, metric)


@pytest.mark.parametrize('function', [lambda metric: randers_norm(metric, torch.ones(2, 1, 1)), drift_norm, dual])
def test_gradients_stay_finite_without_drift(function):
    metric = as_metric(1, 0, 1).float().requires_grad_()
    function(metric).sum().backward()
    assert metric.grad.isfinite().all()


@pytest.mark.parametrize('function', [drift_norm, dual, is_positive, lambda metric: randers_norm(metric, torch.ones(2, 1, 1))])
@pytest.mark.parametrize('metric', [torch.ones(4, 3, 3), torch.ones(5, 3), torch.ones(5, 3, 3, dtype=torch.int64)])
def test_what_is_no_metric_is_refused(function, metric):
    with pytest.raises(ValueError, match=r'expected a floating point metric .*got metric\.shape=') as error:
        function(metric)
    assert str(tuple(metric.shape)) in str(error.value) and str(metric.dtype) in str(error.value)


def test_anisotropy_is_the_ratio_of_the_axes(random_metric):
    metric = random_metric()
    eigenvalues = torch.linalg.eigvalsh(matrix_and_drift(metric)[0])
    assert torch.allclose(anisotropy(metric), (eigenvalues[..., 1] / eigenvalues[..., 0]).sqrt())
    assert anisotropy(as_metric(2.0, 0.0, 2.0)).item() == 1


def test_radius_is_that_of_the_disk_of_the_same_area(random_metric):
    metric = random_metric(eps_w=0.3)
    boundary = tangent_ball(metric, 'polar', (1, 4096), 0.0)  # one ring: the boundary of the ball
    x, y = boundary[:, :, 0], boundary[:, :, 1]
    area = (x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum(1) / 2
    assert torch.allclose(ball_radius(metric), (area / math.pi).sqrt(), rtol=1e-4)

"""Unit tangent balls."""

import math

import pytest
import torch

from metricconv_mm.geometry import randers_norm, reference_support, scale_to_ball, scale_to_ball_vjp, tangent_ball

BOUNDARY = ('polar', (1, 24))  # one ring of radius 1


def matrix_and_drift(metric):
    """M ``[..., H, W, 2, 2]`` and w ``[..., H, W, 2]``."""
    m_xx, m_xy, m_yy, w_x, w_y = metric.unbind(-3)
    return torch.stack([m_xx, m_xy, m_xy, m_yy], -1).unflatten(-1, (2, 2)), torch.stack([w_x, w_y], -1)


def ellipse(metric):
    """A, c and r of the ball's boundary (y - c)^T A (y - c) = r."""
    matrix, w = matrix_and_drift(metric)
    a = matrix - w.unsqueeze(-1) * w.unsqueeze(-2)
    centre = -torch.linalg.solve(a, w)
    return a, centre, 1 - (w * centre).sum(-1)


def quadratic(matrix, vector):
    return torch.einsum('...i,...ij,...j->...', vector, matrix, vector)


def test_boundary_has_norm_one(random_metric):
    metric = random_metric()
    samples = tangent_ball(metric, *BOUNDARY, eps=0)
    assert samples.shape == (2, 24, 2, 4, 3)
    torch.testing.assert_close(randers_norm(metric.unsqueeze(1), samples), torch.ones(2, 24, 4, 3, dtype=torch.float64))


def test_eps_shortens_the_boundary_by_no_more_than_its_share(random_metric):
    metric, eps = random_metric(), 1e-3
    direction = reference_support(*BOUNDARY)[:, :2, None, None]
    norm = randers_norm(metric.unsqueeze(1), direction)
    torch.testing.assert_close(randers_norm(metric.unsqueeze(1), tangent_ball(metric, *BOUNDARY, eps=eps)), norm / (norm + eps))


@pytest.mark.parametrize('support', ['onion', 'polar', 'grid'])
def test_radii_are_norms(random_metric, support):
    metric = random_metric()
    radii = reference_support(support, 5)[:, 2]
    norms = randers_norm(metric.unsqueeze(1), tangent_ball(metric, support, 5, eps=0))
    torch.testing.assert_close(norms, radii.view(1, -1, 1, 1).expand_as(norms), rtol=1e-9, atol=1e-12)


def test_boundary_is_an_ellipse(random_metric):
    metric = random_metric()
    a, centre, r = (part.unsqueeze(1) for part in ellipse(metric))
    y = tangent_ball(metric, *BOUNDARY, eps=0).movedim(2, -1)
    torch.testing.assert_close(quadratic(a, y - centre), r.expand(2, 24, 4, 3))


def test_ball_leans_against_the_drift(random_metric):
    metric = random_metric()
    _, w = matrix_and_drift(metric)
    ring = tangent_ball(metric, 'polar', (1, 1000), eps=0)
    # x^T w is largest where the supporting line touches: further out on the side that w points away from
    along = torch.einsum('nkchw,nhwc->nkhw', ring, w)
    assert (-along.amin(1) > along.amax(1)).all()


def test_metric_comes_back_from_its_ball(random_metric):
    metric = random_metric()
    a, centre, r = ellipse(metric)
    u = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    # the ray t u meets the ellipse at the positive root of (t u - c)^T A (t u - c) = r
    uau, uac, cac = quadratic(a, u), torch.einsum('...i,...ij,...j->...', u, a, centre), quadratic(a, centre)
    t = (uac + (uac * uac - uau * (cac - r)).sqrt()) / uau
    hit = t.unsqueeze(-1) * u
    torch.testing.assert_close(randers_norm(metric, u.movedim(-1, 1)), u.norm(dim=-1) / hit.norm(dim=-1))


def test_isotropic_metric_gives_a_disk():
    radius = 2.5
    metric = torch.tensor([1 / radius**2, 0, 1 / radius**2, 0, 0], dtype=torch.float64).view(1, 5, 1, 1)
    lengths = tangent_ball(metric, *BOUNDARY, eps=0).norm(dim=2)
    torch.testing.assert_close(lengths, torch.full_like(lengths, radius))


def test_identity_metric_and_grid_give_the_kernel_grid():
    eps = 1e-6
    metric = torch.tensor([(1 - eps) ** 2, 0, (1 - eps) ** 2, 0, 0], dtype=torch.float64).view(1, 5, 1, 1)
    samples = tangent_ball(metric, 'grid', (3, 2), eps, dilation=(1, 2))[0, :, :, 0, 0]
    expected = [(x, y) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 1.0)]
    torch.testing.assert_close(samples, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize('shape', [(5, 4, 3), (2, 3, 5, 4, 3)])
def test_leading_dimensions_are_free(random_metric, shape):
    metric = random_metric(6).expand(6, 5, 4, 3)[: math.prod(shape[:-3])].reshape(shape)
    assert tangent_ball(metric, 'onion', 3).shape == (*shape[:-3], 9, 2, 4, 3)


def test_gradients_pass_gradcheck(random_metric):
    metric = random_metric(1, 2, 1).requires_grad_()
    for support, size in (('onion', 3), ('polar', (2, 3)), ('grid', (2, 3))):
        assert torch.autograd.gradcheck(lambda m, a=(support, size): tangent_ball(m, *a), metric)
        assert torch.autograd.gradgradcheck(lambda m, a=(support, size): tangent_ball(m, *a), metric)


@pytest.mark.parametrize('support', ['onion', 'polar', 'grid'])
def test_hand_written_gradient_is_that_of_autograd(random_metric, support):
    metric, reference = random_metric(groups=2).unflatten(1, (2, 5)).requires_grad_(), reference_support(support, 3)
    samples = scale_to_ball(metric, reference, 1e-6)
    grad = torch.randn_like(samples)
    expected = torch.autograd.grad(samples, metric, grad)[0]
    torch.testing.assert_close(scale_to_ball_vjp(metric.detach(), reference, 1e-6, grad), expected)


def test_hand_written_gradient_of_a_singular_metric_is_finite():
    metric = torch.tensor([1.0, 0, 0, 0, 0]).view(1, 5, 1, 1).requires_grad_()
    reference = reference_support('onion', 3, dtype=torch.float32)
    samples = scale_to_ball(metric, reference, 1e-6)
    by_hand = scale_to_ball_vjp(metric.detach(), reference, 1e-6, torch.ones_like(samples))
    by_autograd = torch.autograd.grad(samples.sum(), metric)[0]
    assert by_hand.isfinite().all()
    torch.testing.assert_close(by_hand, by_autograd)


@pytest.mark.parametrize('channel', range(5))
def test_nan_stays_where_it_is(random_metric, channel):
    metric = random_metric()
    metric[1, channel, 2, 0] = math.nan
    bad = tangent_ball(metric, 'polar', 5).isnan()
    assert bad[1, :, :, 2, 0].any()
    bad[1, :, :, 2, 0] = False
    assert not bad.any()


def test_errors_name_what_came():
    metric = torch.ones(1, 5, 2, 2)
    with pytest.raises(ValueError, match=r'expected a floating point metric .*got metric\.shape=\(1, 4, 2, 2\)'):
        tangent_ball(metric[:, :4], 'onion', 3)
    with pytest.raises(ValueError, match=r"unknown support='star': choose one of \['grid', 'onion', 'polar'\]"):
        tangent_ball(metric, 'star', 3)
    with pytest.raises(ValueError, match=r'expected an odd square kernel, got kernel_size=\(3, 2\)'):
        tangent_ball(metric, 'onion', (3, 2))

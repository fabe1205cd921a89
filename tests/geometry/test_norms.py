"""The axioms of a Finsler norm, for every norm, up to its limit and no further."""

import math

import pytest
import torch

from metricconv_mm.geometry import (
    NORMS,
    ball_radius,
    clip_drift,
    drift_margin,
    drift_norm,
    encode_metric,
    finsler_norm,
    is_positive,
    norm_named,
    reference_support,
    scale_to_ball,
    scale_to_ball_vjp,
    tangent_ball,
)

every_norm = pytest.mark.parametrize('norm', sorted(NORMS))
RING = ('polar', (1, 720))


def of_asymmetry(random_metric, norm, share):
    """Random metrics whose ||w||_{M^-1} is so much of the norm's limit."""
    metric = random_metric(2, 3, 2)
    scale = share * NORMS[norm].limit / drift_norm(metric)
    return torch.cat([metric[:, :3], metric[:, 3:] * scale.unsqueeze(1)], 1)


def over_directions(metric, norm, count=360):
    """F, ``[N, count, H, W]``, and the smallest eigenvalue of its fundamental tensor, the Hessian of F^2 / 2, relative to the largest."""
    angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    u = torch.stack([angles.cos(), angles.sin()], 1)[..., None, None].expand(len(metric), count, 2, *metric.shape[2:]).clone().requires_grad_()
    value = finsler_norm(metric.unsqueeze(1), u, norm)
    (first,) = torch.autograd.grad((value.square() / 2).sum(), u, create_graph=True)
    rows = [torch.autograd.grad(first[:, :, i].sum(), u, retain_graph=True)[0] for i in (0, 1)]
    eigenvalues = torch.linalg.eigvalsh(torch.stack(rows, 2).movedim((2, 3), (-2, -1)))
    return value.detach(), eigenvalues[..., 0] / eigenvalues[..., 1].abs()


@every_norm
@pytest.mark.parametrize('share', [0.0, 0.5, 0.999])
def test_below_its_limit_a_norm_is_positive_and_strongly_convex(random_metric, norm, share):
    metric = of_asymmetry(random_metric, norm, share)
    value, convexity = over_directions(metric, norm)
    assert is_positive(metric, norm).all() and (value > 0).all() and (convexity > 0).all()


@every_norm
def test_beyond_its_limit_it_is_not(random_metric, norm):
    metric = of_asymmetry(random_metric, norm, 1.01)
    value, convexity = over_directions(metric, norm, 3600)
    assert not is_positive(metric, norm).any()
    assert ((value <= 0) | (convexity <= 0)).any(1).all()


@every_norm
def test_sums_are_no_longer_than_their_parts(random_metric, norm):
    metric = of_asymmetry(random_metric, norm, 0.99).unsqueeze(1)
    u, v = torch.randn(2, 2, 500, 2, 3, 2, dtype=torch.float64)
    parts = finsler_norm(metric, u, norm) + finsler_norm(metric, v, norm)
    assert (finsler_norm(metric, u + v, norm) <= parts * (1 + 1e-12)).all()


@every_norm
def test_norms_are_homogeneous_for_positive_factors_only(random_metric, norm):
    metric, u = of_asymmetry(random_metric, norm, 0.8), torch.randn(2, 2, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(finsler_norm(metric, 3 * u, norm), 3 * finsler_norm(metric, u, norm))
    assert not torch.allclose(finsler_norm(metric, -u, norm), finsler_norm(metric, u, norm))


@every_norm
def test_slopes_are_those_of_the_value(norm):
    alpha = (1 + torch.rand(50, dtype=torch.float64)).requires_grad_()
    beta = (0.4 * torch.randn(50, dtype=torch.float64)).requires_grad_()
    expected = torch.autograd.grad(NORMS[norm].value(alpha, beta).sum(), (alpha, beta))
    for one, other in zip(NORMS[norm].slopes(alpha.detach(), beta.detach()), expected, strict=True):
        torch.testing.assert_close(one + torch.zeros_like(other), other)


@every_norm
def test_without_drift_every_norm_is_riemannian(random_metric, norm):
    metric, u = random_metric(eps_w=1), torch.randn(2, 2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(finsler_norm(metric, u, norm), finsler_norm(metric, u), rtol=1e-14, atol=0)


@every_norm
def test_the_boundary_of_a_ball_has_norm_one_and_leans_against_the_drift(random_metric, norm):
    metric = of_asymmetry(random_metric, norm, 0.8)
    ring = tangent_ball(metric, *RING, eps=0, norm=norm)
    torch.testing.assert_close(finsler_norm(metric.unsqueeze(1), ring, norm), torch.ones(2, 720, 3, 2, dtype=torch.float64))
    along = torch.einsum('nkchw,nchw->nkhw', ring, metric[:, 3:])
    assert (-along.amin(1) > along.amax(1)).all()


@every_norm
def test_the_randers_ball_alone_is_an_ellipse(random_metric, norm):
    metric = of_asymmetry(random_metric, norm, 0.9)
    x, y = tangent_ball(metric, *RING, eps=0, norm=norm).permute(0, 3, 4, 2, 1).unbind(3)
    # points of a conic satisfy a linear equation in these
    terms = torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)], -1)
    singular = torch.linalg.svdvals(terms / terms.norm(dim=-2, keepdim=True))
    misfit = singular[..., -1] / singular[..., 0]
    assert (misfit < 1e-9).all() if norm == 'randers' else (misfit > 1e-3).all()


@every_norm
def test_radius_is_that_of_the_disk_of_the_same_area(random_metric, norm):
    metric = of_asymmetry(random_metric, norm, 0.7)
    x, y = tangent_ball(metric, 'polar', (1, 4096), 0.0, norm=norm).unbind(2)
    area = (x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum(1) / 2
    torch.testing.assert_close(ball_radius(metric, norm), (area / math.pi).sqrt(), rtol=1e-4, atol=0)


@every_norm
@pytest.mark.parametrize('support', ['onion', 'grid'])
def test_gradients_of_samples(random_metric, norm, support):
    metric, reference = of_asymmetry(random_metric, norm, 0.8).requires_grad_(), reference_support(support, 3)
    samples = scale_to_ball(metric, reference, 1e-6, norm)
    grad = torch.randn_like(samples)
    torch.testing.assert_close(scale_to_ball_vjp(metric.detach(), reference, 1e-6, grad, norm), torch.autograd.grad(samples, metric, grad)[0])
    small = metric.detach()[:1, :, :1, :1].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda m: scale_to_ball(m, reference, 1e-6, norm), small)


@every_norm
def test_gradients_of_a_singular_metric_are_finite(norm):
    metric = torch.tensor([1.0, 0, 0, 0, 0]).view(1, 5, 1, 1)
    reference = reference_support('onion', 3, dtype=torch.float32)
    assert scale_to_ball_vjp(metric, reference, 1e-6, torch.ones(1, 9, 2, 1, 1), norm).isfinite().all()


@every_norm
@pytest.mark.parametrize('drift', ['sigmoid', 'clip_detached'])
@pytest.mark.parametrize('eps_w', [0.05, 0.5, 1.0])
def test_encoded_metrics_stay_below_their_share_of_the_limit(norm, drift, eps_w):
    raw = torch.randn(2, 7, 16, 16, dtype=torch.float64)
    raw[:, 5:] *= 20
    metric = encode_metric(raw, 'spectral_scaled', drift, eps_w, eps=1e-14, norm=norm)
    bound = (1 - eps_w) * NORMS[norm].limit
    assert (drift_norm(metric) <= bound * (1 + 1e-9) + 1e-12).all()
    assert is_positive(metric, norm).all() and (drift_norm(metric).amax() >= 0.99 * bound)


@every_norm
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_clipped_drift_is_below_the_limit_even_where_the_matrix_is_nearly_singular(norm, dtype):
    raw = torch.randn(1, 5, 64, 64, dtype=dtype)
    raw[:, :3] *= 1e-2
    raw[:, 3:] *= 10
    metric = encode_metric(raw, 'cholesky', eps_w=0.05, eps_L=1e-3, norm=norm)
    assert not is_positive(metric, norm).all()
    clipped = clip_drift(metric, 0.99 * NORMS[norm].limit)
    assert is_positive(clipped, norm).all()
    ring = tangent_ball(clipped, *RING, norm=norm)
    assert ring.isfinite().all()


def test_eps_w_of_randers_is_taken_to_the_last_bit():
    for eps_w in (0.1, 0.3, 1 / 3, 0.7, 1.0):
        assert drift_margin(eps_w, 'randers') == eps_w
    assert drift_margin(1.0, 'matsumoto') == 1


@pytest.mark.parametrize(
    'function',
    [
        lambda metric, norm: finsler_norm(metric, metric[:, :2], norm),
        is_positive,
        ball_radius,
        lambda metric, norm: tangent_ball(metric, 'onion', 3, norm=norm),
        lambda metric, norm: encode_metric(torch.zeros(1, 7, 2, 2), norm=norm),
        lambda metric, norm: norm_named(norm),
    ],
)
def test_unknown_norms_list_the_known_ones(function):
    with pytest.raises(ValueError, match=r"unknown norm='kropina': choose one of \['matsumoto', 'randers'\]"):
        function(torch.ones(1, 5, 2, 2), 'kropina')


@pytest.mark.parametrize('eps_w', [0, -0.5, 1.5, math.nan])
@every_norm
def test_eps_w_is_checked_before_it_is_scaled(norm, eps_w):
    with pytest.raises(ValueError, match=rf'expected 0 < eps_w <= 1.*got eps_w={eps_w}'):
        encode_metric(torch.zeros(1, 7, 2, 2), eps_w=eps_w, norm=norm)

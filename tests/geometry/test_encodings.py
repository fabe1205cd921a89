"""Encodings: from raw channels to metrics."""

import math

import numpy as np
import pytest
import torch

from metricconv_mm import geometry
from metricconv_mm.geometry import DRIFTS, ENCODINGS, Limits, clip_drift, drift_norm, encode_metric, is_positive, isotropic_raw, randers_norm

LIMITS = Limits(eps_w=0.3, scale_range=(0.2, 1.7), eps_L=0.05, eps=1e-6)
every_encoding = pytest.mark.parametrize('encoding', sorted(ENCODINGS))
every_drift = pytest.mark.parametrize('drift', sorted(DRIFTS))
every_real_drift = pytest.mark.parametrize('drift', sorted(set(DRIFTS) - {'none'}))
spectral_ones = pytest.mark.parametrize('encoding', ['spectral', 'spectral_scaled'])


def raw_channels(encoding, n=2, height=3, width=2, drift='sigmoid'):
    return torch.randn(n, geometry.raw_channels(encoding, drift), height, width, dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def matrix_of(encoding, raw):
    """The paper's algorithms for the raw channels of one pixel, as products of matrices."""
    if encoding == 'cholesky':
        lower = np.array([[abs(raw[0]) + LIMITS.eps_L, 0], [raw[1], abs(raw[2]) + LIMITS.eps_L]])
        return lower @ lower.T
    if encoding == 'ldl':
        lower = np.array([[1, 0], [raw[0], 1]])
        return lower @ np.diag(np.abs(raw[1:3]) + LIMITS.eps_L) @ lower.T
    if encoding == 'isotropic':
        low, high = LIMITS.scale_range
        return (low + (high - low) * sigmoid(raw[0])) * np.eye(2)
    x, y = raw[:2] / np.linalg.norm(raw[:2])
    rotation = np.array([[x, -y], [y, x]])
    if encoding == 'spectral':
        eigenvalues = np.abs(raw[2:4]) + LIMITS.eps_L
    else:
        low, high = LIMITS.scale_range
        eigenvalues = 2 * sigmoid(raw[2:4]) * (low + (high - low) * sigmoid(raw[4]))
    return rotation @ np.diag(eigenvalues) @ rotation.T


def drift_of(drift, matrix, w):
    if drift == 'none':
        return np.zeros(2)
    padded = matrix + LIMITS.eps * np.eye(2)
    adjugate = np.array([[padded[1, 1], -padded[0, 1]], [-padded[1, 0], padded[0, 0]]])
    n = math.sqrt(w @ adjugate @ w / (np.linalg.det(padded) + LIMITS.eps) + LIMITS.eps)
    bound = 1 - LIMITS.eps_w
    bounded = min(n, bound) if drift == 'clip_detached' else bound * math.tanh(n / 2)
    return w * bounded / (n + LIMITS.eps)


@every_encoding
@every_drift
def test_formulas_of_the_paper(encoding, drift):
    raw = raw_channels(encoding, drift=drift)
    metric = encode_metric(raw, encoding, drift, *LIMITS)
    assert metric.shape == (2, 5, 3, 2)
    for n, row, column in np.ndindex(2, 3, 2):
        pixel = raw[n, :, row, column].numpy()
        matrix = matrix_of(encoding, pixel)
        expected = [matrix[0, 0], matrix[0, 1], matrix[1, 1], *drift_of(drift, matrix, pixel[-2:])]
        np.testing.assert_allclose(metric[n, :, row, column].numpy(), expected, rtol=1e-12, atol=1e-15)


@every_encoding
@every_real_drift
def test_metrics_are_positive_and_bounded(encoding, drift):
    eps_w, eps = 0.2, 1e-6
    metric = encode_metric(raw_channels(encoding, 4, 8, 8), encoding, drift, eps_w=eps_w, eps_L=0.1, eps=eps)
    assert is_positive(metric).all()
    m_xx, m_xy, m_yy = metric[:, :3].unbind(1)
    # eps, added to M and to its determinant, makes the norm that is bounded too small by this much
    regularised = 1 + eps * (m_xx + m_yy + 1 + eps) / (m_xx * m_yy - m_xy * m_xy)
    norm = drift_norm(metric)
    assert (norm <= (1 - eps_w) * regularised.sqrt()).all()
    assert norm.amax() > (1 - eps_w) / 2


@every_encoding
def test_eps_w_one_is_riemannian(encoding):
    raw = raw_channels(encoding).requires_grad_()
    metric = encode_metric(raw, encoding, eps_w=1)
    assert not metric[:, 3:].any()
    torch.testing.assert_close(metric[:, :3], encode_metric(raw, encoding, eps_w=0.5)[:, :3], rtol=0, atol=0)
    metric.sum().backward()
    assert not raw.grad[:, -2:].any() and raw.grad[:, :-2].any()


@every_encoding
@every_real_drift
def test_drift_moves_the_matrix_only_where_it_is_not_detached(encoding, drift):
    raw = raw_channels(encoding).requires_grad_()
    encode_metric(raw, encoding, drift)[:, 3:].sum().backward()
    assert raw.grad[:, -2:].all()
    assert bool(raw.grad[:, :-2].any()) is not DRIFTS[drift][1]


@every_real_drift
def test_gradient_of_a_detached_drift_is_its_factor(drift):
    raw = raw_channels('ldl').requires_grad_()
    metric = encode_metric(raw, 'ldl', drift)
    grad = torch.autograd.grad(metric[:, 3].sum(), raw)[0][:, -2:]
    factor = (metric[:, 3] / raw[:, -2]).detach()
    is_factor = torch.allclose(grad, torch.stack([factor, torch.zeros_like(factor)], 1))
    assert is_factor is DRIFTS[drift][1]


@every_encoding
def test_zero_drift_is_no_trap(encoding):
    raw = raw_channels(encoding)
    raw[:, -2:] = 0
    raw.requires_grad_()
    metric = encode_metric(raw, encoding)
    assert not metric[:, 3:].any()
    metric[:, 3:].sum().backward()
    # at n -> 0 the sigmoid's factor is (1 - eps_w) / 2
    torch.testing.assert_close(raw.grad[:, -2:], torch.full_like(raw[:, -2:], 0.25), rtol=1e-2, atol=0)


@spectral_ones
@pytest.mark.parametrize('length', [1.0, 1e-3, 1e-8, 1e-200, 0.0])
def test_raw_eigenvalues_are_the_eigenvalues_whatever_the_vector(encoding, length):
    raw = raw_channels(encoding)
    raw[:, :2] *= length
    metric = encode_metric(raw, encoding, 'sigmoid', *LIMITS)
    matrix = torch.stack([metric[:, 0], metric[:, 1], metric[:, 1], metric[:, 2]], -1).unflatten(-1, (2, 2))
    if encoding == 'spectral':
        expected = raw[:, 2:4].abs() + LIMITS.eps_L
    else:
        low, high = LIMITS.scale_range
        expected = 2 * raw[:, 2:4].sigmoid() * (low + (high - low) * raw[:, 4:5].sigmoid())
    torch.testing.assert_close(torch.linalg.eigvalsh(matrix), expected.movedim(1, -1).sort(-1).values)


@spectral_ones
def test_zero_vector_and_equal_eigenvalues_are_exactly_isotropic(encoding):
    raw = raw_channels(encoding)
    raw[:, :2], raw[:, 3] = 0, raw[:, 2]
    m_xx, m_xy, m_yy = encode_metric(raw, encoding)[:, :3].unbind(1)
    assert torch.equal(m_xx, m_yy) and not m_xy.any()


@spectral_ones
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_gradient_at_the_zero_vector_is_finite(encoding, dtype):
    raw = raw_channels(encoding).to(dtype)
    raw[:, :2] = 0
    raw.requires_grad_()
    encode_metric(raw, encoding).sum().backward()
    assert raw.grad.isfinite().all()


@every_encoding
@every_drift
def test_gradients_pass_gradcheck(encoding, drift):
    raw = raw_channels(encoding, 1, 1, 2, drift).requires_grad_()
    # a factor held constant has, on purpose, another gradient than finite differences: there only M is compared
    first = 3 if DRIFTS[drift][1] else 5
    assert torch.autograd.gradcheck(lambda r: encode_metric(r, encoding, drift)[:, :first], raw)


@every_encoding
def test_nan_stays_in_its_pixel(encoding):
    for channel in range(ENCODINGS[encoding].channels + 2):
        raw = raw_channels(encoding)
        raw[0, channel, 1, 1] = math.nan
        bad = encode_metric(raw, encoding).isnan().any(1)
        assert bad[0, 1, 1] and bad.sum() == 1


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_clipped_drift_is_positive_even_where_the_matrix_is_nearly_singular(dtype):
    raw = torch.randn(1, 5, 64, 64, dtype=dtype)
    raw[:, :3] *= 1e-2
    raw[:, 3:] *= 10
    metric = encode_metric(raw, 'cholesky', eps_w=0.05, eps_L=1e-3)
    assert not is_positive(metric).all()
    clipped = clip_drift(metric, 0.99)
    assert is_positive(clipped).all()
    angles = torch.arange(0, 360, 7.5, dtype=dtype).deg2rad()
    assert (randers_norm(clipped.unsqueeze(1), torch.stack([angles.cos(), angles.sin()], 1)[..., None, None]) > 0).all()


@pytest.mark.parametrize('matrix', [(0, 0, 0), (100, 100, 100), (3e4, -3e4, 3e4), (1, 0, 1e-12)], ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_clipped_drift_of_a_singular_matrix_is_finite(matrix, dtype):
    metric = torch.tensor([*matrix, 0.3, 0.4], dtype=dtype).view(5, 1, 1)
    clipped = clip_drift(metric, 0.99)
    assert clipped.isfinite().all()
    angles = torch.arange(0, 360, 7.5, dtype=dtype).deg2rad()
    assert (randers_norm(clipped, torch.stack([angles.cos(), angles.sin()], 1)[..., None, None]) >= 0).all()


def test_clipping_leaves_short_drifts_and_directions_alone(random_metric):
    metric = random_metric()
    ceiling = 1.001 * drift_norm(metric).median().item()  # no drift is exactly as long, where rounding would decide
    clipped, short = clip_drift(metric, ceiling), drift_norm(metric) <= ceiling
    assert torch.equal(clipped.movedim(1, -1)[short], metric.movedim(1, -1)[short]) and torch.equal(clipped[:, :3], metric[:, :3])
    torch.testing.assert_close(drift_norm(clipped), drift_norm(metric).clamp_max(ceiling))
    torch.testing.assert_close(clipped[:, 3] * metric[:, 4], clipped[:, 4] * metric[:, 3])


def test_clipping_sends_no_gradient_from_the_drift_to_the_matrix(random_metric):
    metric = random_metric().requires_grad_()
    clip_drift(metric, 0.1)[:, 3:].sum().backward()
    assert not metric.grad[:, :3].any() and metric.grad[:, 3:].all()


@every_encoding
@pytest.mark.parametrize('value', [0.06, (1 - 1e-6) ** 2, 2.9])
def test_isotropic_raw_encodes_its_value(encoding, value):
    if encoding == 'isotropic':
        value = 0.2 + value / 2  # its eigenvalue stays within scale_range
    raw = torch.tensor(isotropic_raw(value, encoding, LIMITS), dtype=torch.float64).view(1, -1, 1, 1)
    expected = torch.tensor([value, 0, value, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(encode_metric(raw, encoding, 'sigmoid', *LIMITS).flatten(), expected, rtol=1e-12, atol=1e-14)


@every_encoding
@every_drift
def test_isotropic_raw_has_the_channels_of_its_drift(encoding, drift):
    assert len(isotropic_raw(1.0, encoding, LIMITS, drift)) == geometry.raw_channels(encoding, drift)


@every_encoding
def test_isotropic_raw_says_what_cannot_be_encoded(encoding):
    value, words = 1e-4, 'choose eps_L below'
    if encoding == 'spectral_scaled':
        value, words = 3.4, r'stay below 2 \* scale_range\[1\].*choose a wider'
    if encoding == 'isotropic':
        value, words = 1.7, r'stays within scale_range=\(0.2, 1.7\), so 1.7 cannot be encoded: choose a wider'
    with pytest.raises(ValueError, match=words):
        isotropic_raw(value, encoding, LIMITS)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'encoding': 'qr'}, r"unknown encoding='qr': choose one of \['cholesky', 'isotropic', 'ldl', 'spectral', 'spectral_scaled'\]"),
        ({'drift': 'tanh'}, r"unknown drift='tanh': choose one of \['clip_detached', 'none', 'sigmoid', 'sigmoid_detached'\]"),
        ({'eps_w': 0}, 'expected 0 < eps_w <= 1.*got eps_w=0'),
        ({'eps_w': 1.5}, 'expected 0 < eps_w <= 1.*got eps_w=1.5'),
        ({'eps_w': math.nan}, 'expected 0 < eps_w <= 1.*got eps_w=nan'),
        ({'scale_range': (1.5, 0.1)}, r'expected scale_range=.*got scale_range=\(1.5, 0.1\)'),
        ({'scale_range': (0, 1)}, r'expected scale_range=.*got scale_range=\(0, 1\)'),
        ({'eps_L': 0}, 'expected eps_L > 0 and eps > 0.*got eps_L=0'),
        ({'eps': -1.0}, 'expected eps_L > 0 and eps > 0.*got .*eps=-1.0'),
        ({'eps': math.inf}, 'both finite, got .*eps=inf'),
        ({'scale_range': (0.1, math.inf)}, 'both finite, got scale_range='),
        ({'encoding': 'ldl'}, r"'ldl' with drift 'sigmoid_detached' needs raw \[N, 5, H, W\], got raw.shape=\(1, 7, 2, 2\)"),
        ({'encoding': 'isotropic', 'drift': 'none'}, r"'isotropic' with drift 'none' needs raw \[N, 1, H, W\], got raw.shape=\(1, 7, 2, 2\)"),
    ],
)
def test_errors_say_what_fits(arguments, words):
    with pytest.raises(ValueError, match=words):
        encode_metric(torch.zeros(1, 7, 2, 2), **arguments)

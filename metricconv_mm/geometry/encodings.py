"""From the raw channels of a predictor to a metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .metrics import from_eigen, unit_vector
from .norms import check_eps_w, drift_margin


class Limits(NamedTuple):
    """The constants of an encoding."""

    eps_w: float = 0.5
    scale_range: tuple[float, float] = (0.1, 1.5)
    eps_L: float = 0.01
    eps: float = 1e-6


class Encoding(NamedTuple):
    """How raw channels become M; those of the raw drift follow them."""

    channels: int
    matrix: Callable[[Tensor, Limits], Tensor]
    """raw[..., channels, H, W] -> M[..., 3, H, W]"""
    initial: str
    """a letter a channel, drift included: how the paper starts the predictor's weights; u(niform), r(andom) or s(mall)"""
    isotropic: Callable[[float, Limits], list[float]]
    """raw values of M = value * identity"""


def _cholesky(raw: Tensor, limits: Limits) -> Tensor:
    l11, l21, l22 = raw.unbind(-3)
    l11, l22 = l11.abs() + limits.eps_L, l22.abs() + limits.eps_L
    return torch.stack([l11 * l11, l11 * l21, l21 * l21 + l22 * l22], -3)


def _ldl(raw: Tensor, limits: Limits) -> Tensor:
    l21, d1, d2 = raw.unbind(-3)
    d1, d2 = d1.abs() + limits.eps_L, d2.abs() + limits.eps_L
    return torch.stack([d1, d1 * l21, d1 * l21 * l21 + d2], -3)


def _spectral(raw: Tensor, limits: Limits) -> Tensor:
    x, y, l1, l2 = raw.unbind(-3)
    return from_eigen(*unit_vector(x, y, limits.eps), l1.abs() + limits.eps_L, l2.abs() + limits.eps_L)


def _spectral_scaled(raw: Tensor, limits: Limits) -> Tensor:
    x, y, l1, l2, scale = raw.unbind(-3)
    low, high = limits.scale_range
    scale = low + (high - low) * scale.sigmoid()
    return from_eigen(*unit_vector(x, y, limits.eps), 2 * l1.sigmoid() * scale, 2 * l2.sigmoid() * scale)


def _isotropic(raw: Tensor, limits: Limits) -> Tensor:
    low, high = limits.scale_range
    value = low + (high - low) * raw.squeeze(-3).sigmoid()
    return torch.stack([value, torch.zeros_like(value), value], -3)


def _above_floor(value: float, limits: Limits) -> float:
    if value < limits.eps_L:
        raise ValueError(f'no raw value encodes {value:.3g} with eps_L={limits.eps_L}: choose eps_L below it')
    return value - limits.eps_L


def _isotropic_scaled(value: float, limits: Limits) -> list[float]:
    low, high = limits.scale_range
    if not value < 2 * high:
        raise ValueError(f'eigenvalues stay below 2 * scale_range[1] = {2 * high:.3g}, so {value:.3g} cannot be encoded: choose a wider scale_range')
    # the scale itself where it can be, so that both eigenvalues start in the middle of their sigmoid
    scale = min(max(value, low + 0.05 * (high - low)), high - 0.05 * (high - low))
    ratio, fraction = value / (2 * scale), (scale - low) / (high - low)
    return [0.0, 0.0, *2 * [math.log(ratio / (1 - ratio))], math.log(fraction / (1 - fraction))]


def _isotropic_within(value: float, limits: Limits) -> list[float]:
    low, high = limits.scale_range
    if not low < value < high:
        raise ValueError(
            f"the eigenvalue of 'isotropic' stays within scale_range={limits.scale_range}, so {value:.3g} cannot be encoded: "
            'choose a wider scale_range'
        )
    return [math.log((value - low) / (high - value))]


ENCODINGS: dict[str, Encoding] = {
    'isotropic': Encoding(1, _isotropic, 'sss', _isotropic_within),
    'cholesky': Encoding(3, _cholesky, 'ususs', lambda v, k: [_above_floor(v**0.5, k), 0.0, _above_floor(v**0.5, k)]),
    'ldl': Encoding(3, _ldl, 'suuss', lambda v, k: [0.0, _above_floor(v, k), _above_floor(v, k)]),
    'spectral': Encoding(4, _spectral, 'rrrrrr', lambda v, k: [0.0, 0.0, _above_floor(v, k), _above_floor(v, k)]),
    'spectral_scaled': Encoding(5, _spectral_scaled, 'rrsssss', _isotropic_scaled),
}


class Drift(NamedTuple):
    """How raw channels become w."""

    bound: Callable[[Tensor, float], Tensor]
    """the norm n of the raw drift, and what is to bound it -> its norm afterwards"""
    detached: bool
    """whether the factor between the two is held constant in the backward pass"""
    channels: int = 2


DRIFTS: dict[str, Drift] = {
    'sigmoid': Drift(lambda n, bound: bound * (2 * n.sigmoid() - 1), False),
    'sigmoid_detached': Drift(lambda n, bound: bound * (2 * n.sigmoid() - 1), True),
    'clip_detached': Drift(lambda n, bound: n.clamp_max(bound), True),
    'none': Drift(lambda n, bound: torch.zeros_like(n), True, 0),
}


def raw_channels(encoding: str, drift: str) -> int:
    """Raw channels of a metric, M's and w's."""
    return ENCODINGS[encoding].channels + DRIFTS[drift].channels


def _bounded_drift(matrix: Tensor, drift: Tensor, strategy: str, limits: Limits) -> Tensor:
    """The raw drift scaled so that ||w||_{M^-1} <= 1 - eps_w, with the paper's regularised inverse of M + eps."""
    bound, detached, _ = DRIFTS[strategy]
    m_xx, m_xy, m_yy = matrix[..., 0, :, :] + limits.eps, matrix[..., 1, :, :], matrix[..., 2, :, :] + limits.eps
    w_x, w_y = drift.unbind(-3)
    adjugate = m_yy * w_x * w_x - 2 * m_xy * w_x * w_y + m_xx * w_y * w_y
    norm = (adjugate / (m_xx * m_yy - m_xy * m_xy + limits.eps)).clamp_min(0).add(limits.eps).sqrt()
    factor = bound(norm, 1 - limits.eps_w) / (norm + limits.eps)
    return drift * (factor.detach() if detached else factor).unsqueeze(-3)


def check_encoding(encoding: str, drift: str, limits: Limits) -> None:
    """Raise ValueError for names that do not exist and constants that give no metric."""
    if encoding not in ENCODINGS:
        raise ValueError(f'unknown {encoding=}: choose one of {sorted(ENCODINGS)}')
    if drift not in DRIFTS:
        raise ValueError(f'unknown {drift=}: choose one of {sorted(DRIFTS)}')
    check_eps_w(limits.eps_w)
    low, high = limits.scale_range
    if not 0 < low < high < math.inf:
        raise ValueError(f'expected scale_range=(low, high) with 0 < low < high, both finite, got scale_range={limits.scale_range}')
    if not (0 < limits.eps_L < math.inf and 0 < limits.eps < math.inf):
        raise ValueError(f'expected eps_L > 0 and eps > 0, both finite, got eps_L={limits.eps_L}, eps={limits.eps}')


def encode_metric(
    raw: Tensor,
    encoding: str = 'spectral_scaled',
    drift: str = 'sigmoid_detached',
    eps_w: float = 0.5,
    scale_range: tuple[float, float] = (0.1, 1.5),
    eps_L: float = 0.01,
    eps: float = 1e-6,
    norm: str = 'randers',
) -> Tensor:
    """A metric from unconstrained channels (Algs. 1-3 of the paper).

    'cholesky': L11, L21, L22; M = L L^T with |.| + eps_L on the diagonal. 'ldl': L21, d1, d2. 'spectral': v_x, v_y, l1, l2;
    M = R diag(|l| + eps_L) R^T, R's first column v / ||v||, exactly orthonormal, and the axes where ||v|| < eps. 'spectral_scaled':
    v_x, v_y, l1, l2, S; eigenvalues 2 sigmoid(l) Lambda, Lambda = low + (high - low) sigmoid(S). 'isotropic': S; M = Lambda times the
    identity. Two drift channels (w_x, w_y) follow, but for the drift 'none', which is w = 0.
    The drift is scaled by n' / n, n = ||w||_{M^-1}, with the bound B = (1 - eps_w) times the limit of the norm, 1 for 'randers' and 1/2 for
    'matsumoto': 'sigmoid' n' = B (2 sigmoid(n) - 1), 'sigmoid_detached' the same with the factor constant in the backward pass, 'clip_detached'
    n' = min(n, B). n is the paper's regularised norm, with eps added to M, to its determinant and under the root: it is too small where det M is
    not far above eps, and there alone w can exceed its bound. Follow with :func:`clip_drift`, as the layers do, for a metric that is positive
    everywhere.

    Args:
        raw: ``Tensor[N, C, H, W]``; C = 5 for 'cholesky' and 'ldl', 6 for 'spectral', 7 for 'spectral_scaled', 3 for 'isotropic', and 2 less
            without drift (:func:`raw_channels`).
        eps_w: 1 - the largest asymmetry, in units of the norm's limit; 1 is Riemannian (w = 0).

    Returns:
        ``Tensor[N, 5, H, W]``.

    Raises:
        ValueError: for a wrong channel count, unknown names, eps_w outside (0, 1], or a reversed scale_range.
    """
    limits = Limits(drift_margin(eps_w, norm), tuple(scale_range), eps_L, eps)  # type: ignore[arg-type]
    check_encoding(encoding, drift, limits)
    kind, channels = ENCODINGS[encoding], raw_channels(encoding, drift)
    if raw.dim() < 3 or raw.shape[-3] != channels:
        raise ValueError(f'encoding {encoding!r} with drift {drift!r} needs raw [N, {channels}, H, W], got raw.shape={tuple(raw.shape)}')
    matrix = kind.matrix(raw[..., : kind.channels, :, :], limits)
    if eps_w == 1 or drift == 'none':
        return torch.cat([matrix, torch.zeros_like(matrix[..., :2, :, :])], -3)
    return torch.cat([matrix, _bounded_drift(matrix, raw[..., kind.channels :, :, :], drift, limits)], -3)


def clip_drift(metric: Tensor, ceiling: float) -> Tensor:
    """The metric with its drift shortened, where needed, to ||w||_{M^-1} <= ceiling.

    Args:
        metric: ``Tensor[..., 5, H, W]``; M positive definite.
        ceiling: below the limit of the norm, so that F is positive (Prop. 1). The scale is constant in the backward pass.
    """
    with torch.no_grad():
        m_xx, m_xy, m_yy, w_x, w_y = metric.unbind(-3)
        # against the smallest matrix that rounding can make of M, or F could still come out negative where M is nearly singular
        rounding = 8 * torch.finfo(metric.dtype).eps
        slack = rounding * (m_xx + m_yy)
        m_xx, m_yy = m_xx - slack, m_yy - slack
        determinant = (1 - rounding) * m_xx * m_yy - m_xy * m_xy
        adjugate = (1 + rounding) * (m_yy * w_x * w_x + m_xx * w_y * w_y) - 2 * m_xy * w_x * w_y
        scale = ceiling * (adjugate / determinant).clamp_min(torch.finfo(metric.dtype).tiny).rsqrt()
        scale = torch.where((determinant > 0) & (m_xx > 0), scale.clamp_max(1), torch.zeros_like(scale)).unsqueeze(-3)
    return torch.cat([metric[..., :3, :, :], metric[..., 3:, :, :] * scale], -3)


def isotropic_raw(value: float, encoding: str, limits: Limits, drift: str = 'sigmoid_detached') -> list[float]:
    """Raw channels, drift included, that :func:`encode_metric` turns into M = value * identity, w = 0."""
    return [*ENCODINGS[encoding].isotropic(value, limits), *DRIFTS[drift].channels * [0.0]]

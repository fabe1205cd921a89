"""Metrics as plain tensors.

A metric field is one tensor of five channels, ``Tensor[..., 5, H, W]``: m_xx, m_xy, m_yy (the symmetric positive definite matrix M) and
w_x, w_y (the drift w), of which a norm makes F (:mod:`~metricconv_mm.geometry.norms`). x is the column direction, y the row direction (down). Lengths are in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .norms import norm_named

CHANNELS = 5


def check_metric(metric: Tensor, name: str = 'metric') -> None:
    """Raise ValueError unless ``metric`` is a floating point ``Tensor[..., 5, H, W]``."""
    if metric.dim() < 3 or metric.shape[-3] != CHANNELS or not metric.is_floating_point():
        raise ValueError(
            f'expected a floating point {name} [..., 5, H, W] with channels (m_xx, m_xy, m_yy, w_x, w_y), '
            f'got {name}.shape={tuple(metric.shape)}, {name}.dtype={metric.dtype}'
        )


def quadratic_form(metric: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """u^T M u for u = (x, y), clamped above zero: rounding can make that of a nearly singular M slightly negative."""
    m_xx, m_xy, m_yy = metric[..., 0, :, :], metric[..., 1, :, :], metric[..., 2, :, :]
    return (m_xx * x * x + 2 * m_xy * x * y + m_yy * y * y).clamp_min(torch.finfo(metric.dtype).tiny)


def finsler_norm(metric: Tensor, vector: Tensor, norm: str = 'randers') -> Tensor:
    """F(u) from alpha = sqrt(u^T M u) and beta = w^T u: alpha + beta ('randers'), or alpha^2 / (alpha - beta) ('matsumoto').

    Args:
        metric: ``Tensor[..., 5, H, W]``.
        vector: ``Tensor[..., 2, H, W]`` of (x, y) components in pixels; leading dimensions broadcast against those of ``metric``.

    Returns:
        ``Tensor[..., H, W]``.

    Raises:
        ValueError: for a metric without five channels, or an unknown norm.
    """
    check_metric(metric)
    x, y = vector[..., 0, :, :], vector[..., 1, :, :]
    return norm_named(norm).value(quadratic_form(metric, x, y).sqrt(), metric[..., 3, :, :] * x + metric[..., 4, :, :] * y)


def randers_norm(metric: Tensor, vector: Tensor) -> Tensor:
    """The Randers norm F(u) = sqrt(u^T M u) + w^T u (Sec. 3 of the paper): :func:`finsler_norm` of the norm 'randers'."""
    return finsler_norm(metric, vector)


def _solve(metric: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three entries of M^-1 (xx, xy, yy)."""
    m_xx, m_xy, m_yy = metric[..., 0, :, :], metric[..., 1, :, :], metric[..., 2, :, :]
    determinant = (m_xx * m_yy - m_xy * m_xy).clamp_min(torch.finfo(metric.dtype).tiny)
    return m_yy / determinant, -m_xy / determinant, m_xx / determinant


def drift_norm(metric: Tensor) -> Tensor:
    """||w||_{M^-1} = sqrt(w^T M^-1 w), the asymmetry of the metric: 0 is Riemannian, and F is a norm while it is below the limit of its kind.

    Args:
        metric: ``Tensor[..., 5, H, W]``.

    Returns:
        ``Tensor[..., H, W]``.
    """
    check_metric(metric)
    i_xx, i_xy, i_yy = _solve(metric)
    w_x, w_y = metric[..., 3, :, :], metric[..., 4, :, :]
    squared = i_xx * w_x * w_x + 2 * i_xy * w_x * w_y + i_yy * w_y * w_y
    return squared.clamp_min(torch.finfo(metric.dtype).tiny).sqrt()


def anisotropy(metric: Tensor) -> Tensor:
    """sqrt(lambda_max / lambda_min) of M: the longest over the shortest axis of its unit ellipse, 1 where it is a disk.

    Args:
        metric: ``Tensor[..., 5, H, W]``.

    Returns:
        ``Tensor[..., H, W]``.
    """
    check_metric(metric)
    m_xx, m_xy, m_yy = metric[..., 0, :, :], metric[..., 1, :, :], metric[..., 2, :, :]
    mean, deviation = (m_xx + m_yy) / 2, torch.hypot((m_xx - m_yy) / 2, m_xy)
    # the smaller eigenvalue by way of the determinant: mean - deviation would cancel
    determinant = (m_xx * m_yy - m_xy * m_xy).clamp_min(torch.finfo(metric.dtype).tiny)
    return (mean + deviation) / determinant.sqrt()


def ball_radius(metric: Tensor, norm: str = 'randers') -> Tensor:
    """Radius of the disk that has the area of the unit ball, in pixels.

    det(M)^(-1/4) (1 - b^2)^(-3/4) for 'randers', whose ball is the ellipse of M - w w^T with axes 1 / sqrt(1 - b^2) times as long (Sec. 3), and
    det(M)^(-1/4) (1 + b^2 / 2)^(1/2) for 'matsumoto', with b = ||w||_{M^-1}.

    Args:
        metric: ``Tensor[..., 5, H, W]``, positive (:func:`is_positive`).

    Returns:
        ``Tensor[..., H, W]``.
    """
    check_metric(metric)
    m_xx, m_xy, m_yy = metric[..., 0, :, :], metric[..., 1, :, :], metric[..., 2, :, :]
    determinant = (m_xx * m_yy - m_xy * m_xy).clamp_min(torch.finfo(metric.dtype).tiny)
    return determinant ** (-1 / 4) * norm_named(norm).area(drift_norm(metric)).sqrt()


def is_positive(metric: Tensor, norm: str = 'randers') -> Tensor:
    """Where M is positive definite and ||w||_{M^-1} below the limit of the norm, so that F(u) > 0 for every u != 0 and its ball is convex.

    The limit is 1 for 'randers' (Prop. 1) and 1/2 for 'matsumoto'.

    Args:
        metric: ``Tensor[..., 5, H, W]``.

    Returns:
        Boolean ``Tensor[..., H, W]``.
    """
    check_metric(metric)
    m_xx, m_xy, m_yy = metric[..., 0, :, :], metric[..., 1, :, :], metric[..., 2, :, :]
    return (m_xx > 0) & (m_xx * m_yy - m_xy * m_xy > 0) & (drift_norm(metric) < norm_named(norm).limit)


def dual(metric: Tensor) -> Tensor:
    """The dual F*(xi) = max{xi^T u : F(u) <= 1} of a Randers metric, itself one (Prop. 2).

    With a = 1 - ||w||^2_{M^-1}: M* = (a M^-1 + (M^-1 w)(M^-1 w)^T) / a^2 and w* = -M^-1 w / a. Taking the dual twice gives the metric back.

    Args:
        metric: ``Tensor[..., 5, H, W]``, positive (:func:`is_positive`).

    Returns:
        ``Tensor[..., 5, H, W]``.
    """
    check_metric(metric)
    i_xx, i_xy, i_yy = _solve(metric)
    w_x, w_y = metric[..., 3, :, :], metric[..., 4, :, :]
    v_x, v_y = i_xx * w_x + i_xy * w_y, i_xy * w_x + i_yy * w_y
    a = 1 - (w_x * v_x + w_y * v_y)
    a_squared = a * a
    return torch.stack(
        [
            i_xx / a + v_x * v_x / a_squared,
            i_xy / a + v_x * v_y / a_squared,
            i_yy / a + v_y * v_y / a_squared,
            -v_x / a,
            -v_y / a,
        ],
        dim=-3,
    )


def unit_vector(x: Tensor, y: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(x, y) scaled to length one, and (1, 0) where it is shorter than ``eps`` and has no direction to speak of."""
    short = torch.hypot(x.detach(), y.detach()) < eps
    # replaced before the norm is taken: its gradient at zero is NaN, which no later mask would remove
    x, y = x.masked_fill(short, 1.0), y.masked_fill(short, 0.0)
    length = torch.hypot(x, y)
    return x / length, y / length


def from_eigen(x: Tensor, y: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """M = along * e e^T + across * e' e'^T for the unit vector e = (x, y) and e' = (-y, x), as its channels m_xx, m_xy, m_yy."""
    return torch.stack([along * x * x + across * y * y, (along - across) * x * y, along * y * y + across * x * x], dim=-3)

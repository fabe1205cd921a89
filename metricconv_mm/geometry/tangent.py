"""Unit tangent balls: where a metric moves the samples of a reference support."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .metrics import check_metric
from .norms import norm_named
from .supports import reference_support


def direction_forms(metric: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """alpha = sqrt(u^T M u) and beta = w^T u for every direction u of a reference support.

    Args:
        metric: ``Tensor[..., 5, H, W]``.
        reference: ``Tensor[K, 3]``.

    Returns:
        Two tensors ``[..., K, H, W]``.
    """
    x, y = reference[:, 0], reference[:, 1]
    squares = torch.stack([x * x, 2 * x * y, y * y], 1)
    quadratic = torch.einsum('kc,...chw->...khw', squares, metric[..., :3, :, :])
    # rounding can make the form of a nearly singular matrix slightly negative
    alpha = quadratic.clamp_min(torch.finfo(metric.dtype).tiny).sqrt()
    return alpha, torch.einsum('kc,...chw->...khw', reference[:, :2], metric[..., 3:, :, :])


def scale_to_ball(metric: Tensor, reference: Tensor, eps: float, norm: str = 'randers') -> Tensor:
    """y_k = s_k u_k / (F(u_k) + eps), ``Tensor[..., K, 2, H, W]`` in (x, y), for the reference support (u_k, s_k)."""
    value = norm_named(norm).value(*direction_forms(metric, reference))
    return (reference[:, :2] * reference[:, 2:])[..., None, None] / (value + eps).unsqueeze(-3)


def scale_to_ball_vjp(metric: Tensor, reference: Tensor, eps: float, grad: Tensor, norm: str = 'randers') -> Tensor:
    """The gradient of :func:`scale_to_ball` with respect to the metric: dy/dF = -s u / (F + eps)^2 (Sec. D.4 of the paper).

    Args:
        grad: ``Tensor[..., K, 2, H, W]``, the gradient with respect to the samples.

    Returns:
        ``Tensor[..., 5, H, W]``.
    """
    x, y = reference[:, 0], reference[:, 1]
    alpha, beta = direction_forms(metric, reference)
    value, (by_alpha, by_beta) = norm_named(norm).value(alpha, beta), norm_named(norm).slopes(alpha, beta)
    scaled = reference[:, :2] * reference[:, 2:]
    grad_value = -torch.einsum('kc,...kchw->...khw', scaled, grad) / (value + eps).square()
    squares = torch.stack([x * x, 2 * x * y, y * y], 1)
    positive = alpha > torch.finfo(metric.dtype).tiny ** 0.5
    grad_matrix = torch.einsum('kc,...khw->...chw', squares, torch.where(positive, grad_value * by_alpha / (2 * alpha), 0 * grad_value))
    return torch.cat([grad_matrix, torch.einsum('kc,...khw->...chw', reference[:, :2], grad_value * by_beta)], -3)


def tangent_ball(
    metric: Tensor, support: str, kernel_size: int | Sequence[int], eps: float = 1e-6, *, dilation: int | Sequence[int] = 1, norm: str = 'randers'
) -> Tensor:
    """Samples of the unit tangent ball {u : F(u) <= 1} of a metric at every pixel (Eq. 3).

    y_k = s_k u_k / (F(u_k) + eps) for the directions u_k and radii s_k of the reference support. The ball leans against the drift.

    Args:
        metric: ``Tensor[N, 5, H, W]``, positive (:func:`~metricconv_mm.geometry.is_positive`) for the norm.
        support: 'onion', 'polar' or 'grid' (:func:`~metricconv_mm.geometry.reference_support`).
        kernel_size: rows and columns of the kernel.
        eps: keeps the samples finite.
        dilation: stretches 'grid' alone.
        norm: 'randers' or 'matsumoto' (:func:`~metricconv_mm.geometry.finsler_norm`).

    Returns:
        ``Tensor[N, K, 2, H, W]``: (x, y) displacements in pixels from the centre of each ball, in the order of the kernel's weights.

    Raises:
        ValueError: for a metric without five channels, an unknown norm, or a support that is unknown or cannot cover the kernel.
    """
    check_metric(metric)
    reference = reference_support(support, kernel_size, dilation, device=metric.device, dtype=metric.dtype)
    return scale_to_ball(metric, reference, eps, norm)

"""Unit tangent balls: where a metric moves the samples of a reference support."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .metrics import check_metric
from .supports import reference_support


def direction_norms(metric: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(u^T M u) and F(u) for every direction u of a reference support.

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
    return alpha, alpha + torch.einsum('kc,...chw->...khw', reference[:, :2], metric[..., 3:, :, :])


def scale_to_ball(metric: Tensor, reference: Tensor, eps: float) -> Tensor:
    """y_k = s_k u_k / (F(u_k) + eps), ``Tensor[..., K, 2, H, W]`` in (x, y), for the reference support (u_k, s_k)."""
    norm = direction_norms(metric, reference)[1]
    return (reference[:, :2] * reference[:, 2:])[..., None, None] / (norm + eps).unsqueeze(-3)


def scale_to_ball_vjp(metric: Tensor, reference: Tensor, eps: float, grad: Tensor) -> Tensor:
    """The gradient of :func:`scale_to_ball` with respect to the metric: dy/dF = -s u / (F + eps)^2 (Sec. D.4 of the paper).

    Args:
        grad: ``Tensor[..., K, 2, H, W]``, the gradient with respect to the samples.

    Returns:
        ``Tensor[..., 5, H, W]``.
    """
    x, y = reference[:, 0], reference[:, 1]
    alpha, norm = direction_norms(metric, reference)
    scaled = reference[:, :2] * reference[:, 2:]
    grad_norm = -torch.einsum('kc,...kchw->...khw', scaled, grad) / (norm + eps).square()
    squares = torch.stack([x * x, 2 * x * y, y * y], 1)
    positive = alpha > torch.finfo(metric.dtype).tiny ** 0.5
    grad_matrix = torch.einsum('kc,...khw->...chw', squares, torch.where(positive, grad_norm / (2 * alpha), 0 * grad_norm))
    return torch.cat([grad_matrix, torch.einsum('kc,...khw->...chw', reference[:, :2], grad_norm)], -3)


def tangent_ball(metric: Tensor, support: str, kernel_size: int | Sequence[int], eps: float = 1e-6, *, dilation: int | Sequence[int] = 1) -> Tensor:
    """Samples of the unit tangent ball {u : F(u) <= 1} of a metric at every pixel (Eq. 3).

    y_k = s_k u_k / (F(u_k) + eps) for the directions u_k and radii s_k of the reference support. The ball leans against the drift.

    Args:
        metric: ``Tensor[N, 5, H, W]``, positive.
        support: 'onion', 'polar' or 'grid' (:func:`~metricconv_mm.geometry.reference_support`).
        kernel_size: rows and columns of the kernel.
        eps: keeps the samples finite.
        dilation: stretches 'grid' alone.

    Returns:
        ``Tensor[N, K, 2, H, W]``: (x, y) displacements in pixels from the centre of each ball, in the order of the kernel's weights.

    Raises:
        ValueError: for a metric without five channels, or a support that is unknown or cannot cover the kernel.
    """
    check_metric(metric)
    reference = reference_support(support, kernel_size, dilation, device=metric.device, dtype=metric.dtype)
    return scale_to_ball(metric, reference, eps)

"""Metrics from image gradients, without learning."""

from __future__ import annotations

import torch
from torch import Tensor

from .metrics import drift_norm, from_eigen, unit_vector

ELONGATIONS = ('edge', 'gradient', 'none')
DRIFT_DIRECTIONS = ('edge', 'gradient')


def sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    """The x and y derivatives of ``Tensor[N, 1, H, W]`` by 3 x 3 Sobel filters with zero padding, not normalised."""
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=image.dtype, device=image.device)
    gradient = torch.nn.functional.conv2d(image, torch.stack([kernel, kernel.T])[:, None], padding=1)
    return gradient[:, 0], gradient[:, 1]


def gradient_metric(
    image: Tensor,
    *,
    iota: float = 10.0,
    anisotropy: float = 100.0,
    elongate: str = 'edge',
    drift: str = 'edge',
    tau: float = 0.0,
    eps: float = 1e-6,
) -> Tensor:
    """The metric that the paper derives from an image's gradient (Eqs. 40-42).

    With g the Sobel gradient and h = ||g|| / max ||g||: eigenvalue (1 + anisotropy h) / iota along g, 1 / (iota (1 + anisotropy h)) across it,
    so the ball has radius sqrt(iota) where the image is flat. w = tau d / (||d||_{M^-1} + eps) for a direction d of length h.

    Args:
        image: ``Tensor[N, C, H, W]``; the mean of the channels is differentiated, max is taken per image.
        iota: squared radius of the ball in a flat region, in pixels squared.
        elongate: 'edge' stretches the ball along the edge (Eq. 40), 'gradient' across it, 'none' keeps it a disk.
        drift: d along the 'gradient' (g_x, g_y) or the 'edge' (-g_y, g_x).
        tau: ||w||_{M^-1}, in [0, 1).

    Returns:
        ``Tensor[N, 5, H, W]``.

    Raises:
        ValueError: for an image that is not [N, C, H, W], unknown names, tau outside [0, 1), iota <= 0, or a negative anisotropy.
    """
    if image.dim() != 4 or not image.is_floating_point():
        raise ValueError(f'expected a floating point image [N, C, H, W], got image.shape={tuple(image.shape)}, image.dtype={image.dtype}')
    if elongate not in ELONGATIONS:
        raise ValueError(f'unknown {elongate=}: choose one of {ELONGATIONS}')
    if drift not in DRIFT_DIRECTIONS:
        raise ValueError(f'unknown {drift=}: choose one of {DRIFT_DIRECTIONS}')
    if not 0 <= tau < 1:
        raise ValueError(f'expected 0 <= tau < 1, the asymmetry of the metric, got {tau=}')
    if not (iota > 0 and anisotropy >= 0):
        raise ValueError(f'expected iota > 0 and anisotropy >= 0, got {iota=}, {anisotropy=}')
    g_x, g_y = sobel(image.mean(1, keepdim=True))
    squares = g_x * g_x + g_y * g_y
    flat = squares == 0
    # sqrt has no gradient at 0
    length = squares.masked_fill(flat, 1.0).sqrt().masked_fill(flat, 0.0)
    largest = length.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(image.dtype).tiny)
    gain = 1 + anisotropy * length / largest
    if elongate == 'none':
        along = across = torch.full_like(length, 1 / iota)
    else:
        along, across = gain / iota, 1 / (iota * gain)
        if elongate == 'gradient':
            along, across = across, along
    matrix = from_eigen(*unit_vector(g_x, g_y, torch.finfo(image.dtype).tiny), along, across)
    if tau == 0:
        return torch.cat([matrix, torch.zeros_like(matrix[:, :2])], 1)
    direction = torch.stack([g_x, g_y] if drift == 'gradient' else [-g_y, g_x], 1) / largest.unsqueeze(1)
    norm = drift_norm(torch.cat([matrix, direction], 1)).unsqueeze(1)
    return torch.cat([matrix, tau * direction / (norm + eps)], 1)

"""Metrics without learning: from image gradients, and of a chosen shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .metrics import anisotropy as shape_of
from .metrics import drift_norm, from_eigen, is_positive, unit_vector
from .norms import norm_named

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
        ValueError: for an image that is not [N, C, H, W] or has no pixel, unknown names, tau outside [0, 1), iota <= 0, a negative anisotropy or eps,
            and constants or pixels so large or small that the metric is not positive in the image's dtype. NaN passes through.
    """
    if image.dim() != 4 or 0 in image.shape[1:] or not image.is_floating_point():
        raise ValueError(f'expected a floating point image [N, C, H, W], got image.shape={tuple(image.shape)}, image.dtype={image.dtype}')
    if elongate not in ELONGATIONS:
        raise ValueError(f'unknown {elongate=}: choose one of {ELONGATIONS}')
    if drift not in DRIFT_DIRECTIONS:
        raise ValueError(f'unknown {drift=}: choose one of {DRIFT_DIRECTIONS}')
    if not 0 <= tau < 1:
        raise ValueError(f'expected 0 <= tau < 1, the asymmetry of the metric, got {tau=}')
    if not (0 < iota < math.inf and 0 <= anisotropy < math.inf and eps >= 0):
        raise ValueError(f'expected iota > 0 and anisotropy >= 0, both finite, and eps >= 0, got {iota=}, {anisotropy=}, {eps=}')
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
        metric = torch.cat([matrix, torch.zeros_like(matrix[:, :2])], 1)
    else:
        direction = torch.stack([g_x, g_y] if drift == 'gradient' else [-g_y, g_x], 1) / largest.unsqueeze(1)
        norm = drift_norm(torch.cat([matrix, direction], 1)).unsqueeze(1)
        metric = torch.cat([matrix, tau * direction / (norm + eps)], 1)
    # the shape is 0 where a determinant has overflowed
    if image.isfinite().all() and not (is_positive(metric) & (shape_of(metric) > 0)).all():
        raise ValueError(
            f'{iota=}, {anisotropy=} and {tau=} make a metric of this image that {image.dtype} does not hold as a positive one: '
            'choose less extreme ones, or float64'
        )
    return metric


def shaped_metric(
    radius: float,
    anisotropy: float = 1.0,
    angle: float = 0.0,
    asymmetry: float = 0.0,
    lean: float = 0.0,
    *,
    norm: str = 'randers',
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The metric whose ellipse u^T M u = 1 has a given shape, and whose unit ball leans a given way.

    The half axes are radius sqrt(anisotropy), at ``angle``, and radius / sqrt(anisotropy). w = -asymmetry M n / sqrt(n^T M n) for the direction n at
    ``lean``, so that -M^-1 w, where the centre of a Randers ball lies, points along n.

    Args:
        radius: of the disk that has the area of the ellipse, in pixels.
        anisotropy: longest over shortest axis, at least 1.
        angle, lean: in degrees from +x towards +y, which is down.
        asymmetry: ||w||_{M^-1}, from 0 to below the limit of the norm, 1 for 'randers' and 1/2 for 'matsumoto'.

    Returns:
        ``Tensor[1, 5, 1, 1]``.

    Raises:
        ValueError: for a radius that is not positive, an anisotropy below 1, an asymmetry outside its range, or an unknown norm.
    """
    limit = norm_named(norm).limit
    if not 0 < radius < math.inf:
        raise ValueError(f'expected a radius above 0, in pixels, got {radius=}')
    if not 1 <= anisotropy < math.inf:
        raise ValueError(f'expected an anisotropy of at least 1, the longest axis over the shortest, got {anisotropy=}')
    if not 0 <= asymmetry < limit:
        raise ValueError(f'expected 0 <= asymmetry < {limit:g}, where the {norm} norm is one and its unit ball is bounded, got {asymmetry=}')
    e_x, e_y, n_x, n_y = (torch.tensor(f(math.radians(a)), dtype=torch.float64).reshape(1, 1, 1) for a in (angle, lean) for f in (math.cos, math.sin))
    matrix = from_eigen(e_x, e_y, torch.full_like(e_x, 1 / (radius**2 * anisotropy)), torch.full_like(e_x, anisotropy / radius**2))
    m_xx, m_xy, m_yy = matrix.unbind(1)
    covector = torch.stack([m_xx * n_x + m_xy * n_y, m_xy * n_x + m_yy * n_y], 1)
    length = (covector[:, 0] * n_x + covector[:, 1] * n_y).sqrt().unsqueeze(1)
    return torch.cat([matrix, -asymmetry * covector / length], 1).to(dtype)

"""Unit geodesic balls: samples that flow along the heat of a pixel under a metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .flow import Flow, check_stencil, flow_of
from .heat import RADIUS, advect, crop_kernels, dirac_heat, flow_field, heat_kernels
from .metrics import check_metric, drift_norm
from .supports import reference_support
from .tangent import scale_to_ball

#: elements of the kernels over windows that are worked on together
CHUNK = 1 << 26
#: how far heat is expected to get where that is not known before it has flown
LIKELY_REACH = 7


def check_field(metric: Tensor) -> None:
    """Raise ValueError unless ``metric`` is ``Tensor[N, 5, H, W]`` and positive where it is finite."""
    check_metric(metric)
    if metric.dim() != 4:
        raise ValueError(f'expected metric [N, 5, H, W], got metric.shape={tuple(metric.shape)}')
    m_xx, m_xy, m_yy = metric.detach().unbind(1)[:3]
    # as far as rounding lets one tell
    definite = (m_xx > 0) & (m_yy > 0) & (m_xy.abs() <= 1.001 * m_xx.abs().sqrt() * m_yy.abs().sqrt())
    indefinite = ~definite & metric.detach().isfinite().all(1)
    if indefinite.any():
        raise ValueError(
            f'expected a positive metric, m_xx > 0, m_yy > 0 and m_xy^2 < m_xx m_yy everywhere, got one that is not at {int(indefinite.sum())} of '
            f'{indefinite.numel()} pixels: see geometry.is_positive'
        )
    norm = drift_norm(metric.detach())
    if (norm >= 1).any():
        raise ValueError(
            f'expected a positive metric, ||w||_{{M^-1}} < 1 everywhere, got one of {norm.nan_to_num(0).max():.3g}: '
            'shorten the drift with geometry.clip_drift(metric, 0.99)'
        )


def field_kernels(metric: Tensor, heat_step: float, flow: Flow) -> Tensor:
    """The heat kernels of a metric, ``Tensor[N, T, H, W]``, with as many taps as the flow needs."""
    kernels = heat_kernels(metric, heat_step, flow.spacing)
    return crop_kernels(kernels, flow.threshold) if flow.threshold else kernels


def chunks(kernels: Tensor, flow: Flow) -> Iterator[tuple[slice, slice]]:
    """(images, rows) of a field of kernels to work on together, so that memory is bounded."""
    n, taps, height, width = kernels.shape
    reach = math.isqrt(taps) // 2 * flow.heat_steps
    if flow.threshold:
        reach = min(reach, LIKELY_REACH)
    window = (2 * min(reach, height - 1) + 1) * (2 * min(reach, width - 1) + 1)
    pixels = CHUNK // (taps * window)
    images, rows = max(1, pixels // (height * width)), min(height, max(1, pixels // width))
    for image in range(0, n, images):
        for row in range(0, height, rows):
            yield slice(image, min(image + images, n)), slice(row, min(row + rows, height))


def smallest_window(kernels: Tensor, flow: Flow) -> int:
    """The side of the smallest window that no heat leaves."""
    return max(max(dirac_heat(kernels[images], rows, flow).shape[:2]) for images, rows in chunks(kernels, flow))


def flow_rows(kernels: Tensor, samples: Tensor, rows: slice, flow: Flow) -> Tensor:
    """Some rows of samples, ``Tensor[N, K, 2, rows, W]``, flown along the heat of their pixels in the field ``kernels`` ``Tensor[N, T, H, W]``."""
    heat = dirac_heat(kernels, rows, flow)
    return advect(flow_field(heat, rows, kernels.shape[2], flow), samples, flow)


def flow_samples(kernels: Tensor, samples: Tensor, flow: Flow) -> Tensor:
    """:func:`flow_rows` of all images and rows, a chunk at a time; the backward pass computes each again, so that it needs no more memory."""
    check_window(kernels, flow)
    flown: list[list[Tensor]] = []
    for images, rows in chunks(kernels, flow):
        part = kernels[images], samples[images, :, :, rows], rows, flow
        whole = (rows.stop - rows.start) * (images.stop - images.start) == kernels.shape[0] * kernels.shape[2]
        recompute = torch.is_grad_enabled() and (kernels.requires_grad or samples.requires_grad) and not whole
        if rows.start == 0:
            flown.append([])
        flown[-1].append(checkpoint(flow_rows, *part, use_reentrant=False) if recompute else flow_rows(*part))
    return torch.cat([torch.cat(rows, 3) for rows in flown])


def check_window(kernels: Tensor, flow: Flow) -> None:
    """Raise ValueError when heat leaves the window asked for."""
    if flow.window:
        with torch.no_grad():
            require_window(smallest_window(kernels, flow), flow)


def require_window(needed: int, flow: Flow) -> None:
    """Raise ValueError unless windows of the side ``needed`` are allowed."""
    if flow.window and needed > flow.window:
        raise ValueError(
            f'window={flow.window} is too small for these times: the heat of some pixel fills {needed} x {needed} cells. '
            f"Use window={needed}, 'auto', or shorter times"
        )


def geodesic_ball(
    metric: Tensor,
    kernel_size: int | Sequence[int],
    *,
    heat_step: float,
    heat_time: float,
    flow_step: float,
    flow_time: float,
    stencil_scale: float = 2.0,
    window: int | str | None = None,
    support: str = 'polar',
    spacing: int | Sequence[int] = 1,
    eps: float = 1e-6,
    flow_eps: float = 1e-6,
) -> Tensor:
    """Samples of the unit geodesic ball of a metric around every pixel, by the paper's heat flow (Sec. 4.2, D.7).

    Heat u spreads from a Dirac at the pixel p, heat_time / heat_step times u(q) <- sum_v h_q(v) u(q + v) with the Finsler-Gauss kernel
    h_q(v) = exp(-F*_q(v)^2 / (4 heat_step)) / Z over 11 x 11 offsets (Eqs. 38, 39); its field V = -grad u / (|grad u| + flow_eps) then carries the
    samples of the unit tangent ball of p, stencil_scale times as large, flow_time / flow_step times Y <- Y + flow_step V(Y). Samples move by
    flow_time pixels at most. Everything outside the image is 0. Differentiable in ``metric``.

    Args:
        metric: ``Tensor[N, 5, H, W]``, positive.
        kernel_size: rows and columns of the kernel.
        heat_step, heat_time, flow_step, flow_time: in pixels squared (heat) and pixels (flow), at unit metric and speed.
        window: None is the exact flow over the whole image. 'auto' drops heat too faint to matter, which moves no sample by more than about 1 %
            of flow_time, and looks as far as there is heat. An odd number is the same with windows of that side at most.
        support: of the stencil, 'polar' as in the paper, 'onion' or 'grid' (:func:`~metricconv_mm.geometry.reference_support`).
        spacing: pixels from a cell of the field ``metric`` to the next, rows and columns: the stride of the convolution that it belongs to.
        eps: added to F.
        flow_eps: added to |grad u|; where the gradient of the heat is fainter samples stay.

    Returns:
        ``Tensor[N, K, 2, H, W]``: (x, y) displacements in pixels from each pixel, in the order of the kernel's weights.

    Raises:
        ValueError: for a metric that is not positive or not [N, 5, H, W], steps, times or names that do not fit, and a window that the heat leaves,
            with the smallest that fits (:func:`geodesic_window`).
    """
    flow = flow_of(heat_step, heat_time, flow_step, flow_time, flow_eps, spacing, window)
    check_stencil(stencil_scale, eps)
    check_field(metric)
    reference = reference_support(support, kernel_size, device=metric.device, dtype=metric.dtype)
    samples = stencil_scale * scale_to_ball(metric, reference, eps)
    return flow_samples(field_kernels(metric, heat_step, flow), samples, flow) if metric.numel() else samples


def geodesic_ball_at(
    metric: Tensor,
    row: int,
    column: int,
    reference: Tensor,
    *,
    heat_step: float,
    heat_time: float,
    flow_step: float,
    flow_time: float,
    stencil_scale: float = 2.0,
    window: int | str | None = 'auto',
    spacing: int | Sequence[int] = 1,
    eps: float = 1e-6,
    flow_eps: float = 1e-6,
) -> Tensor:
    """The samples of :func:`geodesic_ball` around one pixel: of a field of any size, no more is read than heat can reach.

    Args:
        metric: ``Tensor[1, 5, H, W]``, positive around the pixel.
        reference: ``Tensor[K, 3]`` of (cos, sin, radius), as from :func:`~metricconv_mm.geometry.reference_support`.

    Returns:
        ``Tensor[K, 2]``: (x, y) displacements in pixels from the pixel.

    Raises:
        ValueError: for a pixel outside the field, and as :func:`geodesic_ball`.
    """
    flow = flow_of(heat_step, heat_time, flow_step, flow_time, flow_eps, spacing, window)
    check_metric(metric)
    if metric.dim() != 4 or len(metric) != 1:
        raise ValueError(f'expected the metric of one image, [1, 5, H, W], got metric.shape={tuple(metric.shape)}')
    height, width = metric.shape[2:]
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f'expected a pixel (row, column) of a field of {height} x {width}, got ({row}, {column})')
    # Sobel filters and bilinear reading look two cells beyond the heat
    reach = RADIUS * flow.heat_steps + 2
    top, left = max(row - reach, 0), max(column - reach, 0)
    around = metric[..., top : row + reach + 1, left : column + reach + 1]
    check_field(around)
    here = slice(row - top, row - top + 1)
    samples = stencil_scale * scale_to_ball(around[:, :, here], reference.to(metric), eps)
    kernels = field_kernels(around, heat_step, flow)
    check_window(kernels, flow)
    return flow_rows(kernels, samples, here, flow)[0, :, :, 0, column - left]


def geodesic_window(
    metric: Tensor,
    *,
    heat_step: float,
    heat_time: float,
    spacing: int | Sequence[int] = 1,
    flow_eps: float = 1e-6,
) -> int:
    """The side of the smallest window that fits :func:`geodesic_ball`: outside it no heat of any pixel moves a sample by more than the error allowed.

    Heat gets further the larger heat_time, the larger M (its kernel is that of the dual metric), and the smaller flow_eps.

    Args:
        metric: ``Tensor[N, 5, H, W]``, positive; the other arguments are those of :func:`geodesic_ball`.

    Raises:
        ValueError: as :func:`geodesic_ball`.
    """
    flow = flow_of(heat_step, heat_time, 1.0, 0.0, flow_eps, spacing, 'auto')
    check_field(metric)
    if not metric.numel():
        return 1
    with torch.no_grad():
        return smallest_window(field_kernels(metric, heat_step, flow), flow)

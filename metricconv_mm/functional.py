"""The convolutions as functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import ops  # noqa: F401  declares the operators
from .geometry import drift_margin, kernel_grid, norm_named, pair, reference_support
from .geometry.flow import flow_of
from .ops.call import output_size
from .ops.transforms import OPERATORS

IntPair = int | Sequence[int]


def encode_metric(
    raw: Tensor,
    *,
    encoding: str = 'spectral_scaled',
    drift: str = 'sigmoid_detached',
    eps_w: float = 0.5,
    scale_range: tuple[float, float] = (0.1, 1.5),
    eps_L: float = 0.01,
    eps: float = 1e-6,
    ceiling: float | None = None,
    norm: str = 'randers',
) -> Tensor:
    """geometry.encode_metric and geometry.clip_drift as one operator, which keeps nothing but ``raw`` for backward.

    Args:
        raw: ``Tensor[N, C * G, H, W]`` of any floating dtype and layout, C channels for each of G groups: 5 for 'cholesky' and 'ldl', 6 for
            'spectral', 7 for 'spectral_scaled', 3 for 'isotropic', and 2 less without drift.
        ceiling: the drift is clipped to ||w||_{M^-1} <= ceiling, below the norm's limit; None clips nothing.
        norm: 'randers' or 'matsumoto', of whose limit, 1 or 1/2, eps_w takes its share.

    Returns:
        ``Tensor[N, 5 * G, H, W]``, contiguous, float32, or float64 for float64.

    Raises:
        ValueError: for channel counts, names or constants that do not fit.
        TypeError: for integers.
    """
    return torch.ops.metricconv_mm.encode_metric(raw, encoding, drift, drift_margin(eps_w, norm), *scale_range, eps_L, eps, ceiling)


def metric_conv2d(
    input: Tensor,
    metric: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    support: str | Tensor = 'onion',
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    mask: Tensor | None = None,
    eps: float = 1e-6,
    norm: str = 'randers',
) -> Tensor:
    """Convolution over the unit tangent ball of a metric at every output pixel (Eq. 4).

    out(p) = sum_k weight[k] mask[k] input(c(p) + s_k u_k / (F_p(u_k) + eps)) + bias, input read bilinearly and 0 outside the image, with c(p) the
    centre of nn.Conv2d's window and (u_k, s_k) the reference support.

    Args:
        input: ``Tensor[N, C, H, W]``.
        metric: ``Tensor[N, 5 * G, Ho, Wo]``, (m_xx, m_xy, m_yy, w_x, w_y) of each of G groups of input channels, in input's dtype or float32.
        weight: ``Tensor[C_out, C / groups, rows, columns]``.
        bias: ``Tensor[C_out]``.
        support: 'onion', 'polar', 'grid', or a ``Tensor[K, 3]`` of (cos, sin, radius). ``dilation`` stretches 'grid' alone.
        mask: ``Tensor[N, G * K, Ho, Wo]``, a factor for every sample.
        eps: added to F.
        norm: F, 'randers' or 'matsumoto' (:func:`~metricconv_mm.geometry.finsler_norm`).

    Returns:
        ``Tensor[N, C_out, Ho, Wo]``, Ho and Wo as those of nn.Conv2d.

    Raises:
        ValueError: for shapes, devices or names that do not fit.
        TypeError: for dtypes that do not.
    """
    if isinstance(support, str):
        size = tuple(weight.shape[2:]) if weight.dim() == 4 else (1, 1)
        dtype = torch.float64 if metric.dtype == torch.float64 else torch.float32
        support = reference_support(support, size, dilation, device=metric.device, dtype=dtype)
    norm_named(norm)
    operator = getattr(torch.ops.metricconv_mm, OPERATORS[norm])
    return operator(input, metric, weight, bias, mask, support, eps, pair(stride), pair(padding), pair(dilation), groups)


def shifted_conv2d(
    input: Tensor,
    shift: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolution whose whole window is shifted at every output pixel ("entire deformable" convolution, Sec. 2).

    Args:
        input: ``Tensor[N, C, H, W]``.
        shift: ``Tensor[N, 2 * G, Ho, Wo]``, (dy, dx) in pixels, one for all taps, for each of G groups of input channels.
        weight: ``Tensor[C_out, C / groups, rows, columns]``.
        bias: ``Tensor[C_out]``.
        mask: ``Tensor[N, G * K, Ho, Wo]``.

    Returns:
        ``Tensor[N, C_out, Ho, Wo]``.

    Raises:
        ValueError: for shapes or devices that do not fit.
        TypeError: for dtypes that do not.
    """
    return torch.ops.metricconv_mm.shifted_conv2d(input, shift, weight, bias, mask, pair(stride), pair(padding), pair(dilation), groups)


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Deformable convolution, v2 with a mask: every tap has an offset of its own.

    Args:
        input: ``Tensor[N, C, H, W]``.
        offset: ``Tensor[N, G * 2 * K, Ho, Wo]`` in torchvision's layout: channel 2 k is dy and 2 k + 1 is dx of tap k (row by row), in pixels.
        weight: ``Tensor[C_out, C / groups, rows, columns]``.
        bias: ``Tensor[C_out]``.
        mask: ``Tensor[N, G * K, Ho, Wo]``.

    Returns:
        ``Tensor[N, C_out, Ho, Wo]``.

    Raises:
        ValueError: for shapes or devices that do not fit.
        TypeError: for dtypes that do not.
    """
    return torch.ops.metricconv_mm.deform_conv2d(input, offset, weight, bias, mask, pair(stride), pair(padding), pair(dilation), groups)


def geodesic_ball(
    metric: Tensor,
    kernel_size: IntPair,
    *,
    heat_step: float,
    heat_time: float,
    flow_step: float,
    flow_time: float,
    stencil_scale: float = 2.0,
    window: int | str | None = 'auto',
    support: str = 'polar',
    spacing: IntPair = 1,
    dilation: IntPair = 1,
    eps: float = 1e-6,
    flow_eps: float = 1e-6,
) -> Tensor:
    """geometry.geodesic_ball as one operator, which keeps nothing but ``metric`` for backward, and looks no further than there is heat.

    Args:
        metric: ``Tensor[N, 5 * G, H, W]`` of G groups, float32 or float64; positive. The other arguments are those of
            :func:`~metricconv_mm.geometry.geodesic_ball`.

    Returns:
        ``Tensor[N, G * K, 2, H, W]``.

    Raises:
        ValueError: for what does not fit, and a window that the heat leaves, with the smallest that fits.
        TypeError: for other dtypes.
    """
    if metric.dim() != 4 or metric.shape[1] == 0 or metric.shape[1] % 5:
        raise ValueError(f'expected metric [N, 5 x groups, H, W], got metric.shape={tuple(metric.shape)}')
    flow = flow_of(heat_step, heat_time, flow_step, flow_time, flow_eps, spacing, window)
    reference = reference_support(support, kernel_size, dilation, device=metric.device, dtype=metric.dtype)
    groups = metric.shape[1] // 5
    fields = metric.reshape(metric.shape[0] * groups, 5, *metric.shape[2:])
    samples = torch.ops.metricconv_mm.geodesic_ball(fields, reference, heat_step, stencil_scale, eps, *flow)
    return samples.reshape(metric.shape[0], groups * reference.shape[0], 2, *metric.shape[2:])


def geodesic_conv2d(
    input: Tensor,
    metric: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    heat_step: float,
    heat_time: float,
    flow_step: float,
    flow_time: float,
    stencil_scale: float = 2.0,
    window: int | str | None = 'auto',
    support: str = 'polar',
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    mask: Tensor | None = None,
    eps: float = 1e-6,
    flow_eps: float = 1e-6,
) -> Tensor:
    """Convolution over the unit geodesic ball of a metric at every output pixel (Sec. 4.2, D.7).

    out(p) = sum_k weight[k] mask[k] input(c(p) + Y_k(p)) + bias, input read bilinearly and 0 outside the image, with c(p) the centre of nn.Conv2d's
    window and Y the samples of :func:`geodesic_ball`, for metrics that lie ``stride`` pixels apart.

    Args:
        input: ``Tensor[N, C, H, W]``.
        metric: ``Tensor[N, 5 * G, Ho, Wo]`` of each of G groups of input channels, float32 or float64.
        weight: ``Tensor[C_out, C / groups, rows, columns]``.
        bias: ``Tensor[C_out]``.
        mask: ``Tensor[N, G * K, Ho, Wo]``, a factor for every sample.

    The other arguments are those of :func:`geodesic_ball` and :func:`metric_conv2d`.

    Returns:
        ``Tensor[N, C_out, Ho, Wo]``.

    Raises:
        ValueError: for shapes, devices, names and times that do not fit.
        TypeError: for dtypes that do not.
    """
    if weight.dim() != 4:
        raise ValueError(f'expected weight [C_out, C_in / groups, rows, columns], got weight.shape={tuple(weight.shape)}')
    size = (weight.shape[2], weight.shape[3])
    samples = geodesic_ball(
        metric,
        size,
        heat_step=heat_step,
        heat_time=heat_time,
        flow_step=flow_step,
        flow_time=flow_time,
        stencil_scale=stencil_scale,
        window=window,
        support=support,
        spacing=stride,
        dilation=dilation,
        eps=eps,
        flow_eps=flow_eps,
    )
    # whatever else does not fit, deform_conv2d says
    out = output_size(input.shape[2:], size, pair(stride), pair(padding), pair(dilation)) if input.dim() == 4 else (0, 0)
    if min(out) > 0 and metric.shape[2:] != out:
        raise ValueError(f'expected metric [N, 5 x groups, {out[0]}, {out[1]}], at the size of the output, got metric.shape={tuple(metric.shape)}')
    grid = kernel_grid(size, pair(dilation), samples).repeat(samples.shape[1] // (size[0] * size[1]), 1)
    offset = (samples - grid[..., None, None]).flip(2).flatten(1, 2)
    return deform_conv2d(input, offset, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, mask=mask)

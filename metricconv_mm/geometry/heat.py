"""Heat that flows from single pixels under a metric, and points that flow away from it: what unit geodesic balls are made of.

Everything about one pixel p lies in a window around it. Fields over windows are laid out ``[rows of the window, columns, N, H, W]``: first the
displacement q - p of the window's cell q, then p, so that a step of heat is one multiplication of slices for every tap of its kernel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from .flow import Flow
from .metrics import dual
from .supports import Size2, kernel_grid
from .tangent import direction_forms

#: the Finsler-Gauss kernel covers the offsets from -RADIUS to RADIUS, in rows and columns
RADIUS = 5


def heat_kernels(metric: Tensor, step: float, spacing: Size2 = (1, 1)) -> Tensor:
    """The Finsler-Gauss kernel h(v) = exp(-F*(v)^2 / (4 step)) / Z of every cell (Eq. 38), F* being the dual metric.

    Args:
        metric: ``Tensor[..., 5, H, W]``, positive.

    Returns:
        ``Tensor[..., 121, H, W]``: of the 11 x 11 offsets v row by row, 1 in sum.
    """
    offsets = kernel_grid((2 * RADIUS + 1, 2 * RADIUS + 1), spacing, metric)
    alpha, beta = direction_forms(dual(metric), torch.cat([offsets, torch.ones_like(offsets[:, :1])], 1))
    return ((alpha + beta).square() / (-4 * step)).softmax(-3)


def crop_kernels(kernels: Tensor, threshold: float) -> Tensor:
    """The kernels without taps so faint that together they hold less than ``threshold`` of the heat, nor outer rings that are then empty."""
    kernels = kernels.masked_fill(kernels < threshold / kernels.shape[-3], 0)
    grid = kernels.unflatten(-3, (2 * RADIUS + 1, 2 * RADIUS + 1))
    radius = max(_reach((grid.detach() != 0).movedim((-4, -3), (0, 1))))
    inner = slice(RADIUS - radius, RADIUS + radius + 1)
    return grid[..., inner, inner, :, :].flatten(-4, -3)


def _reach(cells: Tensor) -> Size2:
    """How far, in rows and columns, true elements of ``[rows, columns, ...]`` are from the centre."""
    rows, columns = cells.flatten(2).any(2).nonzero(as_tuple=True)
    if not len(rows):
        return 0, 0
    return int((rows - cells.shape[0] // 2).abs().max()), int((columns - cells.shape[1] // 2).abs().max())


def dirac_heat(kernels: Tensor, rows: slice, flow: Flow) -> Tensor:
    """Heat u after ``heat_steps`` steps u(q) <- sum_v h_q(v) u(q + v) (Eq. 39) from a Dirac at every pixel p of ``rows``, 0 outside the image.

    Args:
        kernels: ``Tensor[N, T, H, W]``, of a square grid of T offsets.

    Returns:
        ``Tensor[Dy, Dx, N, rows, W]``, on the smallest windows, the same for all p, that have no heat outside.
    """
    n, taps, height, width = kernels.shape
    radius, count = math.isqrt(taps) // 2, rows.stop - rows.start
    limit = min(radius * flow.heat_steps, height - 1), min(radius * flow.heat_steps, width - 1)
    padded = pad(kernels, (limit[1], limit[1], limit[0], limit[0]))[:, :, rows.start : rows.stop + 2 * limit[0]]
    # [T, Dy, Dx, N, rows, W]: the kernel at q = p + d, without a copy
    seen = padded.unfold(2, count, 1).unfold(3, width, 1).permute(1, 2, 3, 0, 4, 5)
    heat = kernels.new_ones(1, 1, n, count, width)
    for _ in range(flow.heat_steps):
        heat = _step(seen, heat, radius, limit)
        if flow.threshold:
            heat = heat.masked_fill(heat < flow.threshold, 0)
            heat = _centred(heat, _reach(heat.detach() != 0))
    return heat


def _step(seen: Tensor, heat: Tensor, radius: int, limit: Size2) -> Tensor:
    """One step of heat, on windows that reach ``radius`` further, but no further than ``limit``."""
    before = heat.shape[0] // 2, heat.shape[1] // 2
    after = min(before[0] + radius, limit[0]), min(before[1] + radius, limit[1])
    out = heat.new_zeros(2 * after[0] + 1, 2 * after[1] + 1, *heat.shape[2:])
    offsets = ((y, x) for y in range(-radius, radius + 1) for x in range(-radius, radius + 1))
    for tap, offset in zip(seen.unbind(0), offsets, strict=True):
        # the cells d of the window after the step from which d + v was in the window before it
        first = [max(-a, -b - v) for a, b, v in zip(after, before, offset, strict=True)]
        last = [min(a, b - v) for a, b, v in zip(after, before, offset, strict=True)]
        if first[0] > last[0] or first[1] > last[1]:
            continue
        target, kernel, source = (
            tensor[tuple(slice(f + c, e + c + 1) for f, e, c in zip(first, last, centre, strict=True))]
            for tensor, centre in (
                (out, after),
                (tap, limit),
                (heat, [b + v for b, v in zip(before, offset, strict=True)]),
            )
        )
        target.addcmul_(kernel, source)
    return out


def _centred(windows: Tensor, half: Size2) -> Tensor:
    """The middle of windows, ``half`` cells to each side."""
    rows, columns = windows.shape[0] // 2, windows.shape[1] // 2
    return windows[rows - half[0] : rows + half[0] + 1, columns - half[1] : columns + half[1] + 1]


def flow_field(heat: Tensor, rows: slice, height: int, flow: Flow) -> Tensor:
    """V = -grad u / (|grad u| + flow_eps), the gradient by 3 x 3 Sobel filters, 0 outside the image.

    Args:
        heat: ``Tensor[Dy, Dx, N, rows, W]``.

    Returns:
        ``Tensor[2, Dy + 4, Dx + 4, N, rows, W]`` of (x, y), with zeros around what the filters reach.
    """
    wide = pad(heat, (0, 0, 0, 0, 0, 0, 2, 2, 2, 2))
    down = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    right = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    g_x, g_y = (down[:, 2:] - down[:, :-2]) / flow.spacing[1], (right[2:] - right[:-2]) / flow.spacing[0]
    squares = g_x * g_x + g_y * g_y
    still = squares == 0
    # sqrt has no gradient at 0
    speed = squares.masked_fill(still, 1.0).sqrt().masked_fill(still, 0.0) + flow.flow_eps
    field = torch.stack([-g_x / speed, -g_y / speed])
    half, width = (field.shape[1] // 2, field.shape[2] // 2), heat.shape[-1]
    y, x = (torch.arange(-h, h + 1, device=heat.device).unsqueeze(1) for h in half)
    y, x = y + torch.arange(rows.start, rows.stop, device=heat.device), x + torch.arange(width, device=heat.device)
    outside = ((y < 0) | (y >= height))[:, None, None, :, None] | ((x < 0) | (x >= width))[None, :, None, None, :]
    return pad(field.masked_fill(outside, 0.0), (0, 0, 0, 0, 0, 0, 1, 1, 1, 1))


def advect(field: Tensor, samples: Tensor, flow: Flow) -> Tensor:
    """Samples after ``flow_steps`` steps Y <- Y + flow_step V(Y), the field V read bilinearly.

    Args:
        field: ``Tensor[2, Dy, Dx, N, H, W]``, 0 at its border.
        samples: ``Tensor[N, K, 2, H, W]``, (x, y) in pixels from the centre of each window.
    """
    _, rows, columns, n, height, width = field.shape
    half_x, half_y = columns // 2, rows // 2
    cells = field.reshape(2, rows * columns, -1)
    x, y = samples.permute(2, 1, 0, 3, 4).reshape(2, samples.shape[1], -1).unbind(0)
    for _ in range(flow.flow_steps):
        column, right = _cell(x / flow.spacing[1], half_x)
        row, below = _cell(y / flow.spacing[0], half_y)
        first = row * columns + column
        v_x, v_y = (
            torch.lerp(
                torch.lerp(part.gather(0, first), part.gather(0, first + 1), right),
                torch.lerp(part.gather(0, first + columns), part.gather(0, first + columns + 1), right),
                below,
            )
            for part in cells.unbind(0)
        )
        x, y = x + flow.flow_step * v_x, y + flow.flow_step * v_y
    return torch.stack([x, y]).reshape(2, -1, n, height, width).permute(2, 1, 0, 3, 4)


def _cell(position: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """The cell before a position, counted from the window's border, and the distance from it; what lies outside is read at the border."""
    position = position.clamp(-half, half) + half
    # NaN has no cell
    cell = position.detach().nan_to_num(half).floor().clamp_max(2 * half - 1)
    return cell.long(), position - cell

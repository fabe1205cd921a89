"""Reference supports: where a kernel samples the Euclidean unit ball, before a metric deforms it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Size2 = tuple[int, int]


def _onion(kernel_size: Size2, dilation: Size2) -> list[tuple[float, float]]:
    """Centre, then rings l = 1..R of 8 l samples at radius l / R.

    The cells at Chebyshev distance l from the centre, walked clockwise from (row 0, column +l), are in one-to-one
    correspondence with the ring's angles 2 pi j / (8 l), so that a kernel weight keeps its spatial meaning.
    """
    size = kernel_size[0]
    if kernel_size[0] != kernel_size[1] or size % 2 == 0:
        raise ValueError(
            f"support 'onion' has a centre and square rings: expected an odd square kernel, got kernel_size={kernel_size}. "
            "Use support='polar' or 'grid' for other kernels"
        )
    radius = size // 2
    samples = [(0.0, 0.0)] * (size * size)
    for ring in range(1, radius + 1):
        row, column = 0, ring
        for step in range(8 * ring):
            samples[(row + radius) * size + column + radius] = (ring / radius, 2 * math.pi * step / (8 * ring))
            if column == ring and row < ring:
                row += 1
            elif row == ring and column > -ring:
                column -= 1
            elif column == -ring and row > -ring:
                row -= 1
            else:
                column += 1
                if column > ring:
                    row, column = row + 1, ring
    return samples


def _polar(kernel_size: Size2, dilation: Size2) -> list[tuple[float, float]]:
    """Kernel row a is the radius (a + 1) / rows, kernel column b the angle 2 pi b / columns; no sample at the centre."""
    rows, columns = kernel_size
    return [((a + 1) / rows, 2 * math.pi * b / columns) for a in range(rows) for b in range(columns)]


def _grid(kernel_size: Size2, dilation: Size2) -> list[tuple[float, float]]:
    """The polar coordinates of the (dilated) kernel grid itself: the identity metric samples where nn.Conv2d does."""
    rows, columns = kernel_size
    points = [(dilation[0] * (a - (rows - 1) / 2), dilation[1] * (b - (columns - 1) / 2)) for a in range(rows) for b in range(columns)]
    return [(math.hypot(x, y), math.atan2(y, x)) for y, x in points]


#: name -> function(kernel_size, dilation) giving (radius, angle) of every tap, row by row
SUPPORTS: dict[str, Callable[[Size2, Size2], Sequence[tuple[float, float]]]] = {
    'onion': _onion,
    'polar': _polar,
    'grid': _grid,
}


def pair(value: int | Sequence[int]) -> Size2:
    """An int, or two of them, as (rows, columns)."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f'expected an integer or two of them (rows, columns), got {value!r}')
    return int(value[0]), int(value[1])


def kernel_grid(kernel_size: Size2, dilation: Size2, like: Tensor) -> Tensor:
    """``Tensor[K, 2]``: (x, y) of the dilated kernel grid from its centre, in the dtype and on the device of ``like``."""
    rows, columns = kernel_size
    y = dilation[0] * (torch.arange(rows, dtype=like.dtype, device=like.device) - (rows - 1) / 2)
    x = dilation[1] * (torch.arange(columns, dtype=like.dtype, device=like.device) - (columns - 1) / 2)
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], 1)


def _without_rounding(value: float) -> float:
    """cos and sin of multiples of pi / 2 are off by 1e-16, which would put samples on the wrong side of a pixel."""
    nearest = round(value)
    return float(nearest) if abs(value - nearest) < 1e-12 else value


def _build(support: str, kernel_size: Size2, dilation: Size2, device: torch.device, dtype: torch.dtype) -> Tensor:
    if kernel_size == (1, 1):
        taps: Sequence[tuple[float, float]] = [(0.0, 0.0)]
    else:
        taps = SUPPORTS[support](kernel_size, dilation)
    rows = [[_without_rounding(math.cos(t)), _without_rounding(math.sin(t)), r] for r, t in taps]
    return torch.tensor(rows, dtype=dtype, device=device)


_cache: dict[tuple, Tensor] = {}


def _cached(*key: Any) -> Tensor:
    if key not in _cache:
        # a tensor made in inference mode could never be used for training afterwards
        with torch.inference_mode(False):
            tensor = _build(*key)
        if type(tensor) is not Tensor:
            return tensor  # fake: belongs to the mode that is active now
        _cache[key] = tensor
    return _cache[key]


def reference_support(
    support: str,
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The taps of a kernel as directions and radii in the Euclidean unit ball.

    Args:
        support: 'onion' (rings, Sec. 4 of the paper), 'polar' (radius x angle) or 'grid' (the k x k grid itself, in pixels,
            stretched by ``dilation``). A 1 x 1 kernel has one sample, the centre, in every support.
        kernel_size: rows and columns; 'onion' needs an odd square.

    Returns:
        ``Tensor[K, 3]``: cos(theta), sin(theta) and radius of tap k = row * columns + column; theta runs from +x to +y. Do not modify it.

    Raises:
        ValueError: for an unknown support, or a kernel that it cannot cover.
    """
    if support not in SUPPORTS:
        raise ValueError(f'unknown {support=}: choose one of {sorted(SUPPORTS)}')
    size = pair(kernel_size)
    if min(size) < 1:
        raise ValueError(f'expected a kernel of at least 1 x 1, got {kernel_size=}')
    build = _build if torch.compiler.is_compiling() else _cached
    return build(support, size, pair(dilation), torch.device(device or 'cpu'), dtype)

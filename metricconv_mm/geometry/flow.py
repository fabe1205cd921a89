"""How far heat and samples flow, for unit geodesic balls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .supports import Size2, pair

#: the largest error of a local window, as a share of the way that samples flow
TOLERANCE = 0.01
#: steps of heat or flow that can still be waited for: the paper takes ten
MOST_STEPS = 10_000


class Flow(NamedTuple):
    """How heat and samples move."""

    heat_steps: int
    flow_step: float
    flow_steps: int
    flow_eps: float
    """what is added to |grad u| when it is divided by"""
    threshold: float
    """heat below it is no heat; 0 keeps everything"""
    spacing: Size2
    """pixels from a cell of the metric's field to the next, in rows and columns"""
    window: int | None = None
    """the side that no pixel's heat may exceed, in cells"""


def flow_of(
    heat_step: float,
    heat_time: float,
    flow_step: float,
    flow_time: float,
    flow_eps: float = 1e-6,
    spacing: int | Sequence[int] = 1,
    window: int | str | None = 'auto',
) -> Flow:
    """The steps that times and step sizes ask for: floor(time / step) of each, rounding errors forgiven.

    Local windows drop heat below a threshold t after each of n steps, and crop kernels by as much. A step averages, so u is wrong by 2 n t at most,
    its Sobel gradient by 16 sqrt(2) n t / spacing, and V by 1 / flow_eps times that: t is chosen to make it TOLERANCE.

    Raises:
        ValueError: for steps that are not positive, times that are negative, not finite or of more than MOST_STEPS steps, eps <= 0, and windows
            without a centre.
    """
    for name, step, time in (('heat', heat_step, heat_time), ('flow', flow_step, flow_time)):
        if not 0 < step < float('inf'):
            raise ValueError(f'expected {name}_step > 0, got {name}_step={step}')
        if not 0 <= time < float('inf'):
            raise ValueError(f'expected {name}_time >= 0, a multiple of {name}_step={step}, got {name}_time={time}')
    if not 0 < flow_eps < float('inf'):
        raise ValueError(f'expected flow_eps > 0, got {flow_eps=}')
    cells = pair(spacing)
    if min(cells) < 1:
        raise ValueError(f'expected a spacing of at least 1 pixel, got {spacing=}')
    if window is not None and window != 'auto' and (not isinstance(window, int) or window < 1 or window % 2 == 0):
        raise ValueError(f"expected window as an odd number of pixels, 'auto', or None for the whole image, got {window=}")
    for name, step, time in (('heat', heat_step, heat_time), ('flow', flow_step, flow_time)):
        if time / step >= MOST_STEPS + 1:
            raise ValueError(
                f'expected at most {MOST_STEPS} steps, got {name}_time / {name}_step = {time / step:.3g}: '
                f'shorten {name}_time, or lengthen {name}_step'
            )
    heat_steps, flow_steps = int(heat_time / heat_step + 1e-6), int(flow_time / flow_step + 1e-6)
    threshold = 0.0 if window is None else TOLERANCE * flow_eps * min(cells) / (16 * 2**0.5 * max(heat_steps, 1))
    return Flow(heat_steps, flow_step, flow_steps, flow_eps, threshold, cells, window if isinstance(window, int) else None)


def check_stencil(scale: float, eps: float) -> None:
    """Raise ValueError unless the samples before the flow are a ball, ``scale`` times as large, of norms that ``eps`` is added to."""
    if not (0 <= scale < math.inf and 0 <= eps < math.inf):
        raise ValueError(f'expected stencil_scale >= 0 and eps >= 0, both finite, got stencil_scale={scale}, {eps=}')

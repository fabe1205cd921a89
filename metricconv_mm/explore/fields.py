"""The metric at every pixel of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry import gradient_metric, shaped_metric
from .controls import Controls


@dataclass(frozen=True)
class Field:
    """Metrics on a grid over a picture, and the convolution that samples their balls.

    The grid's cell (row i, column j) is centred at ``origin + pitch * (j, i)``; ``unit`` is one of the metric's. All in pixels of the picture.
    """

    metric: Tensor
    """``Tensor[1, 5, rows, columns]``"""
    kernel_size: tuple[int, int]
    support: str
    norm: str = 'randers'
    origin: tuple[float, float] = (0.0, 0.0)
    """(x, y)"""
    pitch: tuple[float, float] = (1.0, 1.0)
    unit: tuple[float, float] = (1.0, 1.0)
    stride: tuple[int, int] = (1, 1)
    sides: tuple[tuple[int, int], tuple[int, int]] | None = None
    """padding above, below; left, right; None keeps the size"""
    dilation: tuple[int, int] = (1, 1)
    input_size: tuple[int, int] | None = None
    """rows and columns of what the convolution sees, if not the picture's"""

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the cell that is nearest to a point of the picture."""
        rows, columns = self.metric.shape[2:]
        row, column = round((y - self.origin[1]) / self.pitch[1]), round((x - self.origin[0]) / self.pitch[0])
        return min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)

    def centre(self, row: int, column: int) -> tuple[float, float]:
        """(x, y) of a cell, in pixels of the picture."""
        return self.origin[0] + self.pitch[0] * column, self.origin[1] + self.pitch[1] * row


@torch.no_grad()
def handmade_field(image: Tensor, controls: Controls) -> Field:
    """The field of the sources 'shape' and 'gradient' over ``Tensor[C, H, W]``."""
    kernel = (controls.kernel_size, controls.kernel_size)
    if controls.source == 'shape':
        metric = shaped_metric(
            controls.radius, controls.anisotropy, controls.angle, controls.asymmetry, controls.lean, norm=controls.norm, dtype=image.dtype
        )
        return Field(metric.expand(1, 5, *image.shape[1:]), kernel, controls.support, controls.norm)
    metric = gradient_metric(
        image[None], iota=controls.radius**2, anisotropy=controls.sharpness, elongate=controls.elongate, drift='edge', tau=controls.asymmetry
    )
    return Field(metric, kernel, controls.support)

"""Unit balls of metrics at chosen pixels of an image, side by side."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from ..geometry import geodesic_ball_at, reference_support
from .balls import outline

TANGENT, GEODESIC = '#ff2d78', '#00c2ff'
COLOURS = (TANGENT, GEODESIC, '#ffd400', '#6ee787')
Pixel = tuple[int, int]


def check_pixels(pixels: Sequence[Pixel], height: int, width: int) -> None:
    """Raise ValueError unless there are pixels (row, column), all of them in an image of this size."""
    outside = [(row, column) for row, column in pixels if not (0 <= row < height and 0 <= column < width)]
    if outside or not pixels:
        raise ValueError(
            f'expected pixels (row, column) of an image of {height} x {width}, rows 0 to {height - 1} and columns 0 to {width - 1}, '
            f'got {outside or "none"}'
        )


def tangent_outlines(metric: Tensor, pixels: Sequence[Pixel], norm: str = 'randers', directions: int = 360) -> list[np.ndarray]:
    """The closed boundaries of unit tangent balls at pixels (row, column) of ``Tensor[1, 5, H, W]``, ``[directions + 1, 2]``, (x, y) from there."""
    check_pixels(pixels, *metric.shape[2:])
    return [outline(metric[..., row : row + 1, column : column + 1], norm, directions)[0, 0] for row, column in pixels]


@torch.no_grad()
def geodesic_outlines(metric: Tensor, pixels: Sequence[Pixel], directions: int = 360, **flow: Any) -> list[np.ndarray]:
    """The closed boundaries of unit geodesic balls at pixels (row, column) of ``Tensor[1, 5, H, W]``, ``[directions + 1, 2]``, (x, y) from there.

    Args:
        flow: steps and times, as of :func:`~metricconv_mm.geometry.geodesic_ball_at`.
    """
    check_pixels(pixels, *metric.shape[2:])
    boundary = reference_support('polar', (1, directions))
    closed = torch.cat([boundary, boundary[:1]])
    return [geodesic_ball_at(metric, row, column, closed, **flow).cpu().numpy() for row, column in pixels]


def draw_pixel_balls(
    image: np.ndarray, pixels: Sequence[Pixel], balls: Mapping[str, Mapping[str, Sequence[np.ndarray]]], *, title: str | None = None
) -> Figure:
    """Where pixels are, and their balls close up (Fig. 5): a row for every pixel and kind of ball, a column for every label.

    Args:
        image: ``[H, W]`` or ``[H, W, 3]``, uint8 or in [0, 1].
        pixels: (row, column) of each.
        balls: kind -> label -> boundaries, ``[n, 2]`` each, (x, y) from their pixels, in the order of ``pixels``.

    Raises:
        ValueError: for no pixels, or pixels outside the image.
    """
    height, width = image.shape[:2]
    check_pixels(pixels, height, width)
    labels = list(dict.fromkeys(label for kind in balls.values() for label in kind))
    rows = len(pixels) * len(balls)
    figure = Figure(figsize=(3.6 + 2.3 * len(labels), max(2.35 * rows, 3.2) + 0.4 * bool(title)), layout='constrained')
    if title:
        figure.suptitle(title)
    overview, close = figure.subfigures(1, 2, squeeze=False, width_ratios=(3.6, 2.3 * len(labels)))[0]
    whole = overview.subplots()
    _show(whole, image)
    whole.set_anchor('N')
    panels = close.subplots(rows, len(labels), squeeze=False)
    for number, (row, column) in enumerate(pixels):
        for label, below in zip(labels, panels[number * len(balls) : (number + 1) * len(balls)].T, strict=True):
            # the same surroundings for every kind, so that they can be compared
            reach = 1.15 * max(float(np.abs(of[label][number]).max()) for of in balls.values() if label in of) + 1
            side = int(reach) + 2
            top, left = max(row - side, 0), max(column - side, 0)
            for (kind, of), axes, colour in zip(balls.items(), below, itertools.cycle(COLOURS)):
                _show(axes, image[top : row + side, left : column + side], left, top)
                if label in of:
                    x, y = of[label][number].T
                    axes.fill(column + x, row + y, facecolor=colour, edgecolor='none', alpha=0.25)
                    axes.plot(column + x, row + y, color=colour, linewidth=1.6, label=f'{kind}, {label}')
                axes.plot(column, row, 'r+', markersize=7)
                axes.set(xlim=(column - reach, column + reach), ylim=(row + reach, row - reach))
                axes.set_title(f'{kind}, {label}: {2 * reach:.0f} px wide', fontsize=8)
        for axes in panels[number * len(balls) : (number + 1) * len(balls), 0]:
            axes.set_ylabel(f'row {row}, column {column}', fontsize=8)
        whole.plot(column, row, 'r+', markersize=8, clip_on=False)
        right = column > width / 2
        name = whole.annotate(
            f'{row},{column}', (column, row), xytext=(-6 if right else 6, -11 if row < height / 2 else 4), textcoords='offset points', fontsize=8,
            color='red', ha='right' if right else 'left', path_effects=[withStroke(linewidth=2, foreground='white')],
        )  # fmt: skip
        name.set_in_layout(False)
    return figure


def _show(axes: Axes, image: np.ndarray, left: int = 0, top: int = 0) -> None:
    """A picture whose first pixel is at (left, top)."""
    rows, columns = image.shape[:2]
    # the extremes of the type, not of the image: a grey picture keeps its contrast
    white = 255 if image.dtype == np.uint8 else 1
    extent = (left - 0.5, left + columns - 0.5, top + rows - 0.5, top - 0.5)
    axes.imshow(image, cmap='gray', interpolation='nearest', vmin=0, vmax=white, extent=extent)
    axes.set_xticks([])
    axes.set_yticks([])

"""The picture through a metric convolution with uniform weights, over tangent or geodesic balls."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from .. import functional
from ..denoising import psnr
from ..geometry.heat import RADIUS
from ..ops import cpu
from .controls import Controls
from .fields import Field
from .views import STEPS, geodesic_note, times_of

#: geodesic balls that are computed at once, in C++ and without: some seconds of one core
MOST, MOST_IN_PYTHON = 256 * 256, 96 * 96
#: cells that heat reaches, and those that are read around it
REACH = RADIUS * STEPS + 2
#: samples that are read at once
CHUNK = 1 << 22

Region = tuple[slice, slice]


@dataclass(frozen=True)
class Filtered:
    """What a filter makes of a picture, or of a part of it."""

    image: Tensor
    """``Tensor[C, rows, columns]``"""
    before: float
    """PSNR of the noisy picture, in dB; infinite without noise"""
    after: float
    corner: tuple[int, int] = (0, 0)
    """column and row of the picture where the part starts"""
    whole: bool = True


@torch.no_grad()
def filter_tangent(field: Field, noisy: Tensor, clean: Tensor) -> Filtered:
    """The mean of ``noisy`` over the samples of every cell of the field, and how near to ``clean`` both are.

    Args:
        noisy, clean: ``Tensor[C, H, W]``; they are resized to what the convolution of the field sees.
    """
    seen, target = _seen(field, noisy), _seen(field, clean)
    channels, (rows, columns) = seen.shape[1], field.kernel_size
    (above, below), (left, right) = field.sides or (_halves(rows), _halves(columns))
    weight = seen.new_full((channels, 1, rows, columns), 1 / (rows * columns))
    out = functional.metric_conv2d(
        pad(seen, (left, right, above, below)),
        field.metric.to(seen.dtype).contiguous(),
        weight,
        support=field.support,
        norm=field.norm,
        stride=field.stride,
        dilation=field.dilation,
        groups=channels,
    )[0]
    return Filtered(out, psnr(seen, target), psnr(out[None], _resized(target, (out.shape[1], out.shape[2]))))


def region_around(field: Field, x: float, y: float) -> Region | None:
    """Rows and columns around a point of the picture whose geodesic balls take some seconds; None when those of all of the field do."""
    most = MOST_IN_PYTHON if cpu.missing() else MOST
    rows, columns = field.metric.shape[2:]
    if rows * columns <= most:
        return None
    row, column = field.cell(x, y)
    side = int(most**0.5) - 2 * REACH
    return _inside(row, side, rows), _inside(column, side, columns)


@torch.no_grad()
def filter_geodesic(field: Field, noisy: Tensor, clean: Tensor, controls: Controls, region: Region | None = None) -> Filtered:
    """:func:`filter_tangent` over the samples of the geodesic balls that the controls ask for, in a region of the field or in all of it.

    Raises:
        ValueError: for a norm that has none.
    """
    note = geodesic_note(field)
    if note:
        raise ValueError(note)
    seen, target = _seen(field, noisy), _seen(field, clean)
    size = field.metric.shape[2:]
    rows, columns = region or (slice(0, size[0]), slice(0, size[1]))
    # heat of the region gets no further
    around = [_within(part.start - REACH, part.stop + REACH, length) for part, length in zip((rows, columns), size, strict=True)]
    balls = functional.geodesic_ball(
        field.metric[:, :, around[0], around[1]].contiguous(),
        field.kernel_size,
        **times_of(field, controls),
        stencil_scale=controls.stencil,
        support=field.support,
        spacing=field.stride,
        dilation=field.dilation,
    )[0, :, :, rows.start - around[0].start :, columns.start - around[1].start :]
    balls = balls[:, :, : rows.stop - rows.start, : columns.stop - columns.start]
    y, x = (
        (torch.arange(part.start, part.stop) * pitch + origin)
        for part, pitch, origin in zip((rows, columns), field.pitch[::-1], field.origin[::-1], strict=True)
    )
    # where they are in what the convolution sees, in its pixels
    centres = torch.stack(torch.meshgrid((x + 0.5) / field.unit[0] - 0.5, (y + 0.5) / field.unit[1] - 0.5, indexing='xy'))
    out = mean_at(seen, balls + centres)
    if region is None:
        return Filtered(out, psnr(seen, target), psnr(out[None], _resized(target, (out.shape[1], out.shape[2]))))
    seen, target = (_resized(images, (size[0], size[1]))[..., rows, columns] for images in (seen, target))
    return Filtered(out, psnr(seen, target), psnr(out[None], target), (columns.start, rows.start), whole=False)


def mean_at(image: Tensor, points: Tensor) -> Tensor:
    """The mean of ``Tensor[1, C, H, W]``, 0 outside, over points (x, y) ``Tensor[K, 2, rows, columns]``: ``Tensor[C, rows, columns]``."""
    size = torch.tensor([image.shape[3], image.shape[2]], dtype=points.dtype)
    grid = (2 * points.permute(2, 3, 0, 1) + 1) / size - 1
    at_once = max(1, CHUNK // (grid[0].numel() * image.shape[1]))
    parts = [grid_sample(image, part.flatten(0, 1)[None], align_corners=False)[0].mean(2) for part in grid.split(at_once)]
    return torch.cat(parts, 1).unflatten(1, grid.shape[:2])


def _inside(centre: int, side: int, length: int) -> slice:
    first = max(min(centre - side // 2, length - side), 0)
    return slice(first, min(first + side, length))


def _within(first: int, last: int, length: int) -> slice:
    return slice(max(first, 0), min(last, length))


def _halves(taps: int) -> tuple[int, int]:
    return (taps - 1) // 2, taps // 2


def _seen(field: Field, image: Tensor) -> Tensor:
    return _resized(image[None], field.input_size) if field.input_size else image[None]


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    return images if tuple(images.shape[2:]) == size else interpolate(images, size, mode='bilinear', align_corners=False, antialias=True)

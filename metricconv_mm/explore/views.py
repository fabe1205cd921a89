"""What the page shows of a field of metrics at one pixel: the unit balls there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..geometry import anisotropy, ball_radius, drift_norm, geodesic_ball_at, reference_support, tangent_ball
from ..visualization import outline
from .controls import Controls
from .fields import Field

#: steps of heat and of flow
STEPS = 5
#: directions of an outline
DIRECTIONS = 180


@dataclass(frozen=True)
class Balls:
    """The unit balls of one pixel; points are ``[n, 2]``, (x, y) in pixels of the picture."""

    centre: tuple[float, float]
    tangent: np.ndarray
    """closed outline"""
    samples: np.ndarray
    geodesic: np.ndarray | None
    geodesic_samples: np.ndarray | None
    note: str
    """why there is no geodesic ball"""
    numbers: dict[str, str]
    """what the metric is, in words: label and value"""


@torch.no_grad()
def balls_at(field: Field, x: float, y: float, controls: Controls) -> Balls:
    """The unit balls of the field's cell nearest to (x, y)."""
    row, column = field.cell(x, y)
    metric = field.metric[..., row : row + 1, column : column + 1]
    centre = np.array(field.centre(row, column))

    def placed(points: np.ndarray) -> np.ndarray:
        return centre + points * np.array(field.unit)

    samples = tangent_ball(metric, field.support, field.kernel_size, norm=field.norm, dilation=field.dilation)[0, :, :, 0, 0].numpy()
    geodesic: tuple[np.ndarray, ...] | None = None
    note = ''
    if controls.geodesic:
        note = geodesic_note(field)
        geodesic = None if note else geodesic_at(field, row, column, controls)
    return Balls(
        (float(centre[0]), float(centre[1])),
        placed(outline(metric, field.norm, DIRECTIONS)[0, 0]),
        placed(samples),
        placed(geodesic[0]) if geodesic else None,
        placed(geodesic[1]) if geodesic else None,
        note,
        {'pixel': f'row {row}, column {column}', **describe(metric, field.norm), **layer_scale(field)},
    )


def geodesic_note(field: Field) -> str:
    """Why there can be no geodesic ball, or nothing."""
    return (
        '' if field.norm == 'randers' else f'Geodesic balls flow along the heat of Randers metrics: there are none of the {field.norm.title()} norm.'
    )


@torch.no_grad()
def geodesic_at(field: Field, row: int, column: int, controls: Controls) -> tuple[np.ndarray, np.ndarray]:
    """The closed outline of the geodesic ball of one cell and its samples, (x, y) from the centre in units of the metric."""
    dtype = field.metric.dtype
    boundary = reference_support('polar', (1, DIRECTIONS), dtype=dtype)
    taps = reference_support(field.support, field.kernel_size, field.dilation, dtype=dtype)
    flown = geodesic_ball_at(
        field.metric,
        row,
        column,
        torch.cat([boundary, boundary[:1], taps]),
        stencil_scale=controls.stencil,
        spacing=field.stride,
        **times_of(field, controls),
    ).numpy()
    return flown[: DIRECTIONS + 1], flown[DIRECTIONS + 1 :]


def times_of(field: Field, controls: Controls) -> dict[str, Any]:
    """The steps and times of :func:`~metricconv_mm.geometry.geodesic_ball`."""
    heat_time = heat_time_of(field, controls.spread)
    # no flow is no steps, of any size
    flow_step = controls.flow_time / STEPS or 1.0
    return {'heat_step': heat_time / STEPS, 'heat_time': heat_time, 'flow_step': flow_step, 'flow_time': controls.flow_time}


def heat_time_of(field: Field, spread: float) -> float:
    """The heat_time after which heat has a standard deviation of ``spread`` along each axis, where the metric is a disk of the field's median radius.

    Its kernel is exp(-F*^2 / 4 t), and F*(v) = r |v| for a disk of radius r, so that the variance is 2 t / r^2.
    """
    radius = ball_radius(field.metric).median().item()
    return spread**2 * radius**2 / 2


def describe(metric: Tensor, norm: str) -> dict[str, str]:
    """A metric ``Tensor[1, 5, 1, 1]`` in words."""
    m_xx, m_xy, m_yy, w_x, w_y = (f'{value + 0.0:.3g}' for value in metric[0, :, 0, 0].tolist())
    longest, shortest = (torch.linalg.eigvalsh(metric[0, [0, 1, 1, 2], 0, 0].double().reshape(2, 2)) ** -0.5).tolist()
    return {
        'M': f'{m_xx}, {m_xy}; {m_xy}, {m_yy} px⁻²',
        'w': f'({w_x}, {w_y}) px⁻¹',
        'half axes of M': f'{longest:.2f} and {shortest:.2f} px',
        'anisotropy': f'{anisotropy(metric).item():.2f}',
        'asymmetry': f'{drift_norm(metric).item():.3f}',
        'radius of the ball': f'{ball_radius(metric, norm).item():.2f} px',
    }


def layer_scale(field: Field) -> dict[str, str]:
    """What the pixels of a layer are that sees the picture smaller than it is."""
    if field.input_size is None:
        return {}
    x, y = field.unit
    return {'px of the layer': f'{x:.3g} x {y:.3g} px of the picture', 'samples': f'{field.kernel_size[0]} x {field.kernel_size[1]}, {field.support}'}

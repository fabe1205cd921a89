"""Scores of methods under several settings, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure


class Point(NamedTuple):
    """What one method scores in one setting."""

    panel: str
    group: str
    method: str
    values: Sequence[float]
    """of single runs; none if there is no run"""
    mean: float | None
    std: float | None
    paper: tuple[float, float | None] | None
    """mean and standard deviation"""


def draw_scores(points: list[Point], *, ylabel: str = 'top-1 accuracy, %', title: str | None = None) -> Figure:
    """A panel for every ``panel``, its groups along x, methods by colour: means with standard deviations, single runs small, the paper's hollow,
    and a cross at the bottom for none.

    Raises:
        ValueError: for no points at all.
    """
    if not points:
        raise ValueError('expected at least one point to draw, got none')
    panels = list(dict.fromkeys(point.panel for point in points))
    methods = list(dict.fromkeys(point.method for point in points))
    widths = [len({point.group for point in points if point.panel == panel}) for panel in panels]
    stacked = max(widths) > 3
    columns, rows = (max(widths), len(panels)) if stacked else (sum(widths), 1)
    figure = Figure(figsize=(1.5 + 1.6 * columns, 0.9 + 3.5 * rows), layout='constrained')
    if title:
        figure.suptitle(title, fontsize=10)
    all_axes = figure.subplots(rows, 1 if stacked else len(panels), squeeze=False, width_ratios=None if stacked else widths).flat
    for panel, axes in zip(panels, all_axes, strict=True):
        here = [point for point in points if point.panel == panel]
        groups = list(dict.fromkeys(point.group for point in here))
        for point in here:
            index = methods.index(point.method)
            x = groups.index(point.group) + 0.7 * ((index + 0.5) / len(methods) - 0.5)
            _draw(axes, x, point, f'C{index}', 0.16 / len(methods))
        axes.set_xticks(range(len(groups)), groups, fontsize=8)
        axes.set(title=panel, xlim=(-0.5, len(groups) - 0.5))
        axes.set_xticks([index + 0.5 for index in range(len(groups) - 1)], minor=True)
        axes.grid(axis='y', alpha=0.3)
        axes.grid(axis='x', which='minor', alpha=0.6)
        axes.tick_params(axis='x', which='minor', length=0)
        axes.set_ylabel(ylabel)
    for index, method in enumerate(methods):
        all_axes[0].plot([], [], 'o', color=f'C{index}', label=method)
    if any(point.mean is None for point in points):
        all_axes[0].plot([], [], 'x', color='grey', label='no result yet')
    if any(point.paper for point in points):
        all_axes[0].plot([], [], 's', color='grey', markerfacecolor='none', label='in the paper')
    figure.legend(loc='outside lower center', ncols=len(methods) + 2, fontsize=8, frameon=False)
    return figure


def _draw(axes, x: float, point: Point, colour: str, step: float) -> None:  # type: ignore[no-untyped-def]
    if point.mean is not None:
        axes.errorbar([x - step], [point.mean], [[point.std or 0]] * 2, fmt='o', color=colour, capsize=4, markersize=6)
        axes.plot([x - step] * len(point.values), point.values, '.', color='black', markersize=2.5, alpha=0.6, zorder=3)
    else:
        axes.plot([x - step], [0.02], 'x', color=colour, markersize=5, transform=axes.get_xaxis_transform())
    if point.paper:
        mean, std = point.paper
        axes.errorbar([x + step], [mean], [[std or 0]] * 2, fmt='s', color=colour, markerfacecolor='none', capsize=3, markersize=5, linewidth=0.8)

"""Training curves from the scalars that mmengine writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure


def read_scalars(work_dir: str | Path) -> list[dict]:
    """All records of the newest run in a work folder (``<timestamp>/vis_data/scalars.json``), in order.

    Raises:
        FileNotFoundError: when the folder holds no run.
    """
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not logs:
        raise FileNotFoundError(f'no training log under {work_dir}: expected <timestamp>/vis_data/scalars.json, which tools/train.py writes')
    return [json.loads(line) for line in logs[-1].read_text().splitlines() if line.strip()]


def draw_curves(runs: dict[str, list[dict]]) -> Figure:
    """Training loss by iteration and top-1 accuracy by epoch, one line a run."""
    figure = Figure(figsize=(9, 3.6), layout='constrained')
    losses, accuracies = figure.subplots(1, 2)
    for name, records in runs.items():
        training = [r for r in records if 'loss' in r]
        evaluations = [r for r in records if 'accuracy/top1' in r]
        losses.plot([r['step'] for r in training], [r['loss'] for r in training], label=name)
        accuracies.plot([r['step'] for r in evaluations], [r['accuracy/top1'] for r in evaluations], 'o-', label=name)
    losses.set(xlabel='iteration', ylabel='training loss')
    accuracies.set(xlabel='epoch', ylabel='top-1 accuracy [%]')
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
    losses.legend(fontsize=7)
    return figure


def draw_range_test(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float | None) -> Figure:
    """The loss over the learning rate of a range test, and the rate that it suggests."""
    figure = Figure(figsize=(6, 3.6), layout='constrained')
    axes = figure.add_subplot()
    axes.plot(rates, losses, color='0.75', label='loss')
    axes.plot(rates, smoothed, label='smoothed')
    if suggestion is not None:
        axes.axvline(suggestion, color='tab:red', linestyle='--', label=f'suggestion: {suggestion:.2g}')
    axes.set(xscale='log', xlabel='learning rate', ylabel='loss')
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure

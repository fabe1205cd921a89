"""Training curves from the scalars that mmengine writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from ..denoising import psnr
from .images import displayable


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


def draw_learning(clean: Tensor, runs: dict[str, tuple[dict, Sequence[Tensor]]], *, title: str | None = None) -> Figure:
    """Learning on one image (Figs. 15-20): the images trained on and tested on as every method leaves them, and the errors on the way.

    Args:
        clean: ``Tensor[1, H, W]``.
        runs: by method, ``train`` and ``test`` errors (a list, and by iteration), and the training and test image, noisy and denoised.
    """
    figure = Figure(figsize=(2.8 * (2 + len(runs)), 6.2), layout='constrained')
    if title:
        figure.suptitle(title)
    panels = figure.subplots(2, 2 + len(runs), squeeze=False)
    noisy, unseen = next(iter(runs.values()))[1][:2]
    pictures = [[('clean', clean), ('noisy, trained on', noisy)], [('', clean), ('noisy, unseen', unseen)]]
    for method, (_, images) in runs.items():
        for row, image in zip(pictures, images[2:], strict=True):
            row.append((method, image))
    for row, axes_row in zip(pictures, panels, strict=True):
        for (label, image), axes in zip(row, axes_row, strict=True):
            if not label:  # the curves' place
                continue
            axes.imshow(displayable(image), cmap='gray', vmin=0, vmax=1)
            axes.set_title(f'{label}: {psnr(image, clean):.2f} dB' if image is not clean else label, fontsize=9)
            axes.set_axis_off()
    curves = panels[1, 0]
    for method, (errors, _) in runs.items():
        (line,) = curves.plot(errors['train'], label=method)
        curves.plot([int(i) for i in errors['test']], list(errors['test'].values()), '--', color=line.get_color())
    curves.set(yscale='log', title='MSE (dashed: unseen)', xlabel='iteration')
    curves.title.set_fontsize(9)
    curves.legend(fontsize=7)
    return figure

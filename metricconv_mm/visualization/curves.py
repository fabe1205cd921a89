"""Training curves from the scalars that mmengine writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

Records = list[dict]
KEYS = ('loss', 'accuracy/top1')
BOOKKEEPING = {'step', 'iter', 'epoch'}
SEED = re.compile(r'seed[_-]?\d+')


def read_scalars(work_dir: str | Path) -> Records:
    """All records of the training in a work folder (``<timestamp>/vis_data/scalars.json``), in order.

    Where a run was resumed, the parts before are joined to it; where training started anew, the newest counts alone.

    Raises:
        FileNotFoundError: when the folder holds no log of training.
    """
    records: Records = []
    for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        new = _lines(log)
        start = next((record for record in new if 'iter' in record), None)
        if start is None:
            continue  # an evaluation of a checkpoint
        first = next((record['step'] for record in records if 'iter' in record), start['step'])
        anew = start['step'] <= first or start.get('epoch') == 1
        repeated = {_identity(record) for record in new}
        kept = [] if anew else [r for r in records if r['step'] < start['step'] and _identity(r) not in repeated]
        records = kept + new
    if not records:
        raise FileNotFoundError(f'no training log under {work_dir}: expected <timestamp>/vis_data/scalars.json, which tools/train.py writes')
    return records


def _lines(log: Path) -> Records:
    records = []
    for line in log.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed, or is writing it now
        if 'step' in record:
            records.append(record)
    return records


def _identity(record: dict) -> tuple:
    return record['step'], *sorted(record.keys() - BOOKKEEPING)


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """What tells paths apart: their parts without those that all begin or end with; the last part of a single path.

    Raises:
        ValueError: for a path that is given twice.
    """
    parts = [Path(path).resolve().parts for path in paths]
    twice = [str(path) for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1]
    if twice:
        raise ValueError(f'given more than once: {", ".join(sorted(set(twice)))}')
    if len(parts) < 2:
        return [Path(path).resolve().name for path in paths]
    before, after = (sum(1 for _ in takewhile(lambda same: len(set(same)) == 1, zip(*p, strict=False))) for p in (parts, [p[::-1] for p in parts]))
    shortest = min(map(len, parts))
    after = min(after, shortest - before)
    # one folder inside another: something must be left of both
    before = min(before, shortest - after - 1) if shortest - after - before < 1 else before
    return ['/'.join(p[before : len(p) - after]) for p in parts]


def group_seeds(work_dirs: Sequence[str | Path]) -> dict[str, list[Path]]:
    """Folders by the name of their curve: seed_0, seed_1, ... of one folder belong together.

    Raises:
        ValueError: for a folder that is given twice.
    """
    short_names(work_dirs)
    groups: dict[Path, list[Path]] = {}
    for folder in map(Path, work_dirs):
        own = folder.resolve()
        groups.setdefault(own.parent if SEED.fullmatch(own.name) else own, []).append(folder)
    return dict(zip(short_names(list(groups)), groups.values(), strict=True))


def draw_curves(runs: Mapping[str, Sequence[Records]], keys: Sequence[str] | None = None, *, log: Sequence[str] = ()) -> Figure:
    """One panel a key and one line a name: the mean of its runs, in a band from the lowest of them to the highest.

    Args:
        runs: from :func:`read_scalars`, one or more (such as seeds) for a name.
        keys: what to draw; those of 'loss' and 'accuracy/top1' that there are unless given.
        log: the keys to draw on a logarithmic axis.

    Raises:
        ValueError: for a key that no run has, with those that exist, and for runs of one name that have no step in common.
    """
    everything = [records for group in runs.values() for records in group]
    known = {key for records in everything for record in records for key, value in record.items() if isinstance(value, int | float)} - BOOKKEEPING
    chosen = [key for key in KEYS if key in known] if keys is None else list(keys)
    unknown = [key for key in [*chosen, *log] if key not in known]
    if unknown or not chosen:
        raise ValueError(f'no run has {", ".join(unknown or KEYS)}: choose from {", ".join(sorted(known))}')
    if not set(log) <= set(chosen):
        raise ValueError(f'a logarithmic axis for {", ".join(set(log) - set(chosen))}, which is not drawn: {", ".join(chosen)} are')
    epochs = max((record.get('epoch', 0) for records in everything for record in records), default=0)
    palette = colormaps['tab10' if len(runs) <= 10 else 'tab20'].colors  # type: ignore[attr-defined]
    figure = Figure(figsize=(4.5 * len(chosen), 3.6 + 0.2 * -(-len(runs) // 3)), layout='constrained')
    for axes, key in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        last = 0
        for index, (name, group) in enumerate(runs.items()):
            steps, values = _common(name, key, group)
            last = max(last, *steps[-1:], 0)
            turn, colour = divmod(index, len(palette))
            style = {
                'color': palette[colour],
                'linestyle': ('-', '--', ':')[turn % 3],
                'label': f'{name} ({len(group)} runs)' if len(group) > 1 else name,
            }
            axes.plot(steps, values.mean(0), marker='o' if len(steps) < 20 else None, markersize=3, **style)
            if len(values) > 1:
                axes.fill_between(steps, values.min(0), values.max(0), color=style['color'], alpha=0.2, linewidth=0)
        axes.set(xlabel='iteration' if last > epochs else 'epoch', ylabel=key, yscale='log' if key in log else 'linear')
        axes.xaxis.set_major_locator(MaxNLocator('auto', integer=True))
        if key in log:
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            axes.yaxis.set_major_formatter('{x:g}')
            axes.yaxis.set_minor_formatter('{x:g}')
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=min(3, len(runs)), fontsize=7)
    return figure


def _common(name: str, key: str, group: Sequence[Records]) -> tuple[list[int], np.ndarray]:
    """The steps at which all runs that have ``key`` have it, and its values, ``[runs, steps]``."""
    series = [{record['step']: record[key] for record in records if key in record} for records in group]
    series = [one for one in series if one] or [{}]
    steps = sorted(set(series[0]).intersection(*series[1:]))
    if any(series) and not steps:
        raise ValueError(f'the runs of {name} have no step in common for {key}: draw them in separate pictures')
    return steps, np.array([[one[step] for step in steps] for one in series])

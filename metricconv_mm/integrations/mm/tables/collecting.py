"""Putting the runs of a table together: means over seeds beside the paper's numbers, as Markdown and CSV."""

from __future__ import annotations

import csv
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .definition import AXES, Cell, Score, Table
from .records import METRICS, Outcome, outcome, read_description

STATES = ('died', 'running', 'stopped')


@dataclass(frozen=True)
class Row:
    """A cell of the table, and what its runs have found."""

    cell: Cell
    outcomes: list[Outcome]

    @property
    def done(self) -> list[Outcome]:
        return [found for found in self.outcomes if found.state == 'done']

    def score(self, metric: str) -> Score | None:
        """The mean over the runs that are done, and their standard deviation (of a sample, by n - 1) where there are two; None without any."""
        values = [found.metrics[metric] for found in self.done if metric in found.metrics]
        return summary(values)

    def mean(self, attribute: str) -> float | None:
        values = [value for found in self.done if (value := getattr(found, attribute)) is not None]
        return statistics.fmean(values) if values else None

    @property
    def runs(self) -> str:
        """How many are done, and how many are not."""
        counts = Counter(found.state for found in self.outcomes)
        unfinished = [f'{counts[state]} {state}' for state in STATES if counts[state]]
        return ', '.join([str(counts['done']) if counts['done'] or unfinished else 'missing', *unfinished])


def summary(values: Sequence[float]) -> Score | None:
    """Mean and standard deviation of a sample."""
    if not values:
        return None
    return Score(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def collect(table: Table, work_dir: Path) -> list[Row]:
    """What is in ``work_dir`` of every cell of the table.

    Raises:
        FileNotFoundError: when nothing of it is there.
    """
    rows = []
    for cell in table.cells:
        folders = [folder for folder in work_dir.glob(f'{cell.name}/seed_*') if folder.name.removeprefix('seed_').isdigit()]
        folders.sort(key=lambda folder: int(folder.name.removeprefix('seed_')))
        rows.append(Row(cell, [found for found in map(outcome, folders) if found.state != 'missing']))
    if not any(row.outcomes for row in rows):
        raise FileNotFoundError(f'{work_dir} holds no run of {table.name}: expected CONFIG/seed_N, which tools/run_table.py writes')
    return rows


def table_of(work_dir: Path) -> str:
    """The name, or the file, of the table that the runs in ``work_dir`` were started for.

    Raises:
        ValueError: when there is no run, or of more than one table.
    """
    names = {read_description(path.parent).get('table') for path in work_dir.glob('*/seed_*/run.json')} - {None}
    if len(names) != 1:
        raise ValueError(f'{work_dir} holds runs of {" and ".join(sorted(map(str, names))) or "no table"}: say which table with --table')
    return str(names.pop())


def markdown(table: Table, rows: list[Row], work_dir: Path) -> str:
    """The table with the paper's numbers beside it, its conditions, and what did not finish."""
    header = ['data set', 'ResNet', 'setting', 'method', 'top-1, %', 'paper', 'top-5, %', 'paper', 'runs', 's / epoch', 'GPU, MiB']
    body = []
    for row in rows:
        scores = [score for metric in METRICS for score in (row.score(metric), row.cell.paper.get(metric))]
        numbers = [row.mean('epoch_seconds'), row.mean('memory')]
        body.append([
            row.cell.dataset, str(row.cell.depth), row.cell.setting, row.cell.method,
            *(str(score) if score else '' for score in scores), row.runs, *(f'{number:.1f}' if number is not None else '' for number in numbers),
        ])  # fmt: skip
    lines = [f'{table.caption}. Means ± standard deviations (of a sample, over seeds) of the last epoch.', '', *_table(header, body)]
    lines += ['', *(f'* {line}' for line in [*conditions(rows, work_dir), *_unfinished(rows)])]
    return '\n'.join(lines) + '\n'


def geometry_markdown(rows: list[Row]) -> str:
    """What GeometryHook measured after the last epoch: medians over layers, means over seeds."""
    names = list(dict.fromkeys(name for row in rows for found in row.done for name in found.geometry))
    header = ['data set', 'ResNet', 'setting', 'method', *names]
    body = []
    for row in rows:
        measured = [summary([found.geometry[name] for found in row.done if name in found.geometry]) for name in names]
        if any(measured):
            numbers = ['' if score is None else f'{score.mean:.3f}' + (f' ± {score.std:.3f}' if score.std is not None else '') for score in measured]
            body.append([row.cell.dataset, str(row.cell.depth), row.cell.setting, row.cell.method, *numbers])
    if not body:
        return 'No geometry was logged: the configs need default_hooks=dict(geometry=dict(type="GeometryHook")).\n'
    return '\n'.join(_table(header, body)) + '\n'


def _table(header: list[str], body: list[list[str]]) -> list[str]:
    """A Markdown table without columns that are empty, and without a data set and depth that all rows share."""
    columns = [{cells[index] for cells in body} for index in range(len(header))]
    kept = [index for index, values in enumerate(columns) if values != {''} and (index > 1 or len(values) > 1)]
    rule = ['---' if index < len(AXES) else '--:' for index in range(len(header))]
    return ['| ' + ' | '.join(cells[index] for index in kept) + ' |' for cells in [header, rule, *body]]


def conditions(rows: list[Row], work_dir: Path) -> list[str]:
    """Seeds, options and machines, as the runs were started."""
    found = [read_description(work_dir / row.cell.name / f'seed_{outcome.seed}') for row in rows for outcome in row.done]
    seeds = sorted({description['seed'] for description in found})
    options = {' '.join(description['options']) for description in found}
    machines = {', '.join(f'{key} {value}' for key, value in description['machine'].items()) for description in found}
    lines = [f'seeds {", ".join(map(str, seeds))}'] if seeds else []
    return lines + [f'--cfg-options {option}' for option in sorted(options) if option] + sorted(machines)


def _unfinished(rows: list[Row]) -> list[str]:
    return [f'{row.cell.name}, seed {found.seed}, {found.state} {found.detail}' for row in rows for found in row.outcomes if found.state in STATES]


def write_csv(rows: list[Row], cells_path: Path, runs_path: Path) -> None:
    """One line a cell, and one line a run; numbers in full precision, an empty field for none."""
    keys = [f'{metric}_{part}' for metric in METRICS for part in ('mean', 'std')]
    with cells_path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow([*AXES, 'config', 'runs', *keys, *(f'paper_{key}' for key in keys), 'epoch_seconds', 'gpu_mib', 'unfinished'])
        for row in rows:
            scores = [score for scores in (map(row.score, METRICS), map(row.cell.paper.get, METRICS)) for score in scores]
            numbers = [number for score in scores for number in (score or (None, None))]
            unfinished = [found for found in row.outcomes if found.state != 'done']
            axes = [getattr(row.cell, axis) for axis in AXES]
            writer.writerow([*axes, row.cell.name, len(row.done), *numbers, row.mean('epoch_seconds'), row.mean('memory'), len(unfinished)])
    statistics_ = sorted({name for row in rows for found in row.outcomes for name in found.geometry})
    with runs_path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow([*AXES, 'config', 'seed', 'state', 'epoch', *METRICS, 'epoch_seconds', 'gpu_mib', *statistics_])
        for row in rows:
            for found in row.outcomes:
                axes = [getattr(row.cell, axis) for axis in AXES]
                measured = [*map(found.metrics.get, METRICS), found.epoch_seconds, found.memory, *map(found.geometry.get, statistics_)]
                writer.writerow([*axes, row.cell.name, found.seed, found.state, found.epoch, *measured])

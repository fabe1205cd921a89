"""What the folder of a run says about it: its description, its scalars, and how far it got."""

from __future__ import annotations

import fcntl
import json
import os
import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DESCRIPTION = 'run.json'
OUTPUT = 'output.log'
LOCK = 'lock'
METRICS = ('top1', 'top5')


class RunLock:
    """A lock on a run's folder that lives as long as any process that has the file open: the one that took it, and those it passes ``file`` on to.

    The kernel releases it, whatever way the processes end; nothing is left to clean up.
    """

    def __init__(self, folder: Path) -> None:
        self.file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)

    def acquire(self) -> bool:
        """Whether the lock is ours now; never waits."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self.file)


def is_locked(folder: Path) -> bool:
    """Whether a process works on the run in ``folder``."""
    if not (folder / LOCK).exists():
        return False
    lock = RunLock(folder)
    try:
        return not lock.acquire()
    finally:
        lock.close()


def read_description(folder: Path) -> dict[str, Any]:
    """What the run in ``folder`` was started with; empty if nothing was, or if what is there cannot be read."""
    try:
        return json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        return {}


def write_description(folder: Path, description: dict[str, Any]) -> None:
    # in one step: a run that is killed meanwhile keeps the old one
    draft = folder / f'{DESCRIPTION}.draft'
    draft.write_text(json.dumps(description, indent=1) + '\n')
    draft.replace(folder / DESCRIPTION)


def read_parts(folder: Path) -> list[dict[str, Any]]:
    """All scalars of a run, of every part where it was interrupted and resumed, in order; a line that a kill has cut short is left out."""
    records = []
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
    return records


@dataclass(frozen=True)
class Outcome:
    """How far one run has come, and what it has found."""

    seed: int
    state: str
    """'done', 'running', 'died', 'stopped' or 'missing'"""
    detail: str
    epoch: int
    """the last that was evaluated"""
    metrics: dict[str, float] = field(default_factory=dict)
    """of the last epoch, in %, if done"""
    epoch_seconds: float | None = None
    memory: float | None = None
    """peak of the GPU in MiB; mmengine logs none on the CPU"""
    geometry: dict[str, float] = field(default_factory=dict)
    """GeometryHook's statistics at the last epoch, medians over layers, if done"""


def outcome(folder: Path) -> Outcome:
    """Read the run in ``folder``, WORK/CELL/seed_N."""
    seed = int(folder.name.removeprefix('seed_'))
    description = read_description(folder)
    records = read_parts(folder)
    evaluations = {record['step']: record for record in records if 'accuracy/top1' in record}
    epoch, epochs = max(evaluations, default=0), description.get('epochs')
    if epochs is not None and epoch >= epochs:
        metrics = {metric: evaluations[epoch][f'accuracy/{metric}'] for metric in METRICS if f'accuracy/{metric}' in evaluations[epoch]}
        memory = max((record['memory'] for record in records if 'memory' in record), default=None)
        return Outcome(seed, 'done', '', epoch, metrics, _epoch_seconds(folder, records), memory, _geometry(records))
    progress = f'after epoch {epoch} of {epochs}'
    if not description:
        return Outcome(seed, 'missing', 'not started', epoch)
    if is_locked(folder):
        return Outcome(seed, 'running', progress, epoch)
    if failure := description.get('failure'):
        return Outcome(seed, 'died', f'{progress}: {failure}', epoch)
    return Outcome(seed, 'stopped', progress, epoch)


def _epoch_seconds(folder: Path, records: list[dict[str, Any]]) -> float | None:
    """The mean time of a training iteration times their number; without evaluation."""
    times = [record['time'] for record in records if 'loss' in record and 'time' in record]
    sizes = (re.search(r'Epoch\(train\)\s+\[\d+\]\[\s*\d+/(\d+)\]', path.read_text()) for path in sorted(folder.glob('*/*.log')))
    iterations = next((int(size[1]) for size in sizes if size), None)
    return statistics.fmean(times) * iterations if times and iterations else None


def _geometry(records: list[dict[str, Any]]) -> dict[str, float]:
    measured = [record for record in records if any(key.startswith('geometry/') for key in record)]
    if not measured:
        return {}
    by_statistic: dict[str, list[float]] = {}
    for key, value in max(measured, key=lambda record: record['step']).items():
        if key.startswith('geometry/'):
            by_statistic.setdefault(key.rsplit('/', 1)[1], []).append(value)
    return {name: statistics.median(values) for name, values in by_statistic.items()}

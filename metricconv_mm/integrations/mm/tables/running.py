"""Running a table: every run is a training of its own, in a process and a folder of its own, that may be interrupted anywhere and goes on."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from tqdm import tqdm

from .. import launch
from .definition import Cell, Table
from .records import outcome, read_description
from .training import Training

# two checkpoints: mmengine removes an old one before it writes the next, and may be killed in between
OVERRIDES = ('default_hooks.checkpoint.max_keep_ckpts=2', 'default_hooks.checkpoint.save_best=None')
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Run:
    """One cell with one seed."""

    table: str
    cell: Cell
    seed: int
    folder: Path
    epochs: int
    options: tuple[str, ...]
    digest: str
    """of the whole config: a folder keeps to one"""

    @property
    def name(self) -> str:
        return f'{self.cell.name}, seed {self.seed}'

    def command(self, train: Path, checkpoint: Path | None = None) -> list[str]:
        """That trains it, from a checkpoint if there is one."""
        resume = ['--resume', str(checkpoint)] if checkpoint else []
        options = [f'randomness.seed={self.seed}', *OVERRIDES, *self.options]
        return [sys.executable, str(train), str(self.cell.config), '--work-dir', str(self.folder), *resume, '--cfg-options', *options]

    def description(self) -> dict[str, Any]:
        return {
            'table': self.table,
            'config': self.cell.config.name,
            'seed': self.seed,
            'epochs': self.epochs,
            'options': list(self.options),
            'digest': self.digest,
        }


class Failure(NamedTuple):
    run: Run
    reason: str


def plan(table: Table, cells: Iterable[Cell], seeds: Iterable[int], work_dir: Path, options: Iterable[str] = ()) -> list[Run]:
    """All runs of these cells of a table, WORK/CELL/seed_N each; seed by seed, so that every cell has a number early.

    Args:
        options: entries of the config to override, as ``KEY=VALUE``.

    Raises:
        ValueError: for a config that is not there or counts no epochs, or a folder that holds a run of another config or other options.
    """
    options = tuple(options)
    parser = argparse.ArgumentParser()
    launch.add_common_arguments(parser)
    overrides = parser.parse_args(['--cfg-options', *options]).cfg_options if options else {}
    configs = [(cell, *_read_config(cell, overrides)) for cell in cells]
    runs = [
        Run(table.source, cell, seed, work_dir.absolute() / cell.name / f'seed_{seed}', epochs, options, digest)
        for seed in seeds
        for cell, epochs, digest in configs
    ]
    others = [run for run in runs if read_description(run.folder).get('digest', run.digest) != run.digest]
    if others:
        before = ' '.join(read_description(others[0].folder)['options']) or 'none'
        raise ValueError(
            f'{len(others)} folders, {others[0].folder} the first, hold runs of another version of their config, or with other --cfg-options '
            f'(there {before}; now {" ".join(options) or "none"}): choose another --work-dir, or remove them'
        )
    return runs


def _read_config(cell: Cell, overrides: dict[str, Any]) -> tuple[int, str]:
    """How many epochs the config has, and a digest of all that it says."""
    if not cell.config.is_file():
        raise ValueError(f'no config {cell.config}, which the table names for {cell.dataset}, {cell.method}, {cell.setting}, ResNet-{cell.depth}')
    cfg = Config.fromfile(cell.config, import_custom_modules=False)
    cfg.merge_from_dict(overrides)
    epochs = cfg.train_cfg.get('max_epochs')
    if epochs is None:
        raise ValueError(f'{cell.config}: expected train_cfg=dict(max_epochs=...), got {dict(cfg.train_cfg)}')
    contents = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    return epochs, hashlib.sha256(contents.encode()).hexdigest()[:16]


def run_all(runs: list[Run], train: Path, *, jobs: int = 1) -> list[Failure]:
    """Train what is not done yet, ``jobs`` at a time; returns the runs that died, each of which has been reported.

    A run that another process works on is waited for, and taken over if it is not done afterwards. An exception, KeyboardInterrupt among them, ends
    the trainings. Should this process be killed, they go on, and keep their runs locked meanwhile.

    Args:
        train: the path of tools/train.py.
    """
    waiting, active = deque(runs), list[Training]()
    failures: list[Failure] = []
    slots = list(range(jobs))
    with _Progress(runs) as progress:
        try:
            while waiting or active:
                for _ in range(len(waiting)):
                    if not slots:
                        break
                    run = waiting.popleft()
                    training = Training(run)
                    if not training.lock.acquire():
                        training.close()
                        waiting.append(run)
                    elif progress.look(run) == 'done':
                        training.close()
                    else:
                        training.start(train, slots.pop(), jobs)
                        active.append(training)
                for training in [training for training in active if training.ended()]:
                    active.remove(training)
                    slots.append(training.slot)
                    failure = training.finish()
                    progress.say(training, failure)
                    if failure:
                        failures.append(Failure(training.run, failure))
                progress.show([training.run for training in active], waiting)
                if waiting or active:
                    time.sleep(POLL_SECONDS)
        finally:
            for training in active:
                training.stop()
    return failures


class _Progress:
    """A bar in epochs, of all runs together, and a line for each run that ends."""

    def __init__(self, runs: list[Run]) -> None:
        self.epochs = {run: 0 for run in runs}
        for run in runs:
            self.look(run)
        self.bar = tqdm(total=sum(run.epochs for run in runs), initial=sum(self.epochs.values()), unit='epoch', disable=None)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def look(self, run: Run) -> str:
        """The state of a run, whose epochs now count."""
        found = outcome(run.folder)
        self.epochs[run] = min(found.epoch, run.epochs)
        return found.state

    def show(self, active: list[Run], waiting: Iterable[Run]) -> None:
        for run in active:
            self.look(run)
        self.bar.n = sum(self.epochs.values())
        elsewhere = [f'waiting for {run.name}, which another process trains' for run in waiting if not active]
        self.bar.set_postfix_str(', '.join([run.name for run in active] + elsewhere[:1]))

    def say(self, training: Training, failure: str | None) -> None:
        run = training.run
        if failure:
            self.bar.write(f'FAILED {run.name}: {failure}\n{training.last_lines()}')
        else:
            self.look(run)
            self.bar.write(f'done   {run.name}: {outcome(run.folder).metrics["top1"]:.2f} % top-1')

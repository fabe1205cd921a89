"""One training process of a table: started, resumed, watched and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ....collect_env import cores, machine
from ..hooks.checkpoints import last_good_checkpoint
from .records import OUTPUT, RunLock, outcome, write_description

if TYPE_CHECKING:
    from .running import Run

GRACE_SECONDS = 10
LAST_LINES = 15


class Training:
    """tools/train.py in a process of its own, which shares the lock on its folder."""

    def __init__(self, run: Run) -> None:
        run.folder.mkdir(parents=True, exist_ok=True)
        self.run, self.lock, self.slot = run, RunLock(run.folder), 0
        self.description: dict[str, Any] = {}

    def start(self, train: Path, slot: int, jobs: int) -> None:
        """Train, from the newest checkpoint that can be read, as one of ``jobs``."""
        run, self.slot = self.run, slot
        # of a run that was killed before its last evaluation: mmengine evaluates only after an epoch of training
        (run.folder / f'epoch_{run.epochs}.pth').unlink(missing_ok=True)
        checkpoint, _ = last_good_checkpoint(run.folder)
        variables = {**os.environ, **environment(slot, jobs)}
        self.description = {**run.description(), 'machine': {**machine(), 'threads': variables['OMP_NUM_THREADS']}}
        write_description(run.folder, self.description)
        with (run.folder / OUTPUT).open('ab') as output:
            # a session of its own: Ctrl-C does not reach it, but this process, which then ends it together with its workers
            self.process = subprocess.Popen(
                run.command(train, checkpoint),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                pass_fds=(self.lock.file,),
                start_new_session=True,
            )

    def ended(self) -> bool:
        return self.process.poll() is not None

    def finish(self) -> str | None:
        """Free the folder of an ended process; returns why the run is not done, which its description keeps, or None."""
        status = self.process.returncode
        self._signal(signal.SIGKILL)  # workers of a process that was killed hold the lock for some seconds
        failure = None
        if outcome(self.run.folder).state == 'done':
            for checkpoint in self.run.folder.glob('epoch_*.pth'):
                if checkpoint.stem != f'epoch_{self.run.epochs}':
                    checkpoint.unlink()
        else:
            how = f'killed by {signal.Signals(-status).name}' if status < 0 else f'exit status {status}' if status else 'no evaluation at the end'
            failure = f'{how}: {(self._output() or ["no output"])[-1]}'
            write_description(self.run.folder, {**self.description, 'failure': failure})
        self.close()
        return failure

    def stop(self) -> None:
        """End the process and its workers."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_SECONDS)
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.close()

    def close(self) -> None:
        self.lock.close()

    def last_lines(self) -> str:
        """Of what the process printed, and where the rest is."""
        return '\n'.join([*('    ' + line for line in self._output()[-LAST_LINES:]), f'    all of it: {self.run.folder / OUTPUT}'])

    def _output(self) -> list[str]:
        return [line for line in (self.run.folder / OUTPUT).read_text(errors='replace').splitlines() if line.strip()]

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def environment(slot: int, jobs: int) -> dict[str, str]:
    """Variables for one of ``jobs`` trainings at a time: its share of the cores, and a GPU of its own where there are several; none that is set."""
    wanted = {'OMP_NUM_THREADS': str(max(1, cores() // jobs)), 'OMP_WAIT_POLICY': 'PASSIVE'}
    found = {name: value for name, value in wanted.items() if name not in os.environ}
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    devices = visible.split(',') if visible else [str(index) for index in range(torch.cuda.device_count())]
    if len(devices) > 1:
        found['CUDA_VISIBLE_DEVICES'] = devices[slot % len(devices)]
    return found

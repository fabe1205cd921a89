"""Interleaved timing: whatever slows the machine down for a while slows every side."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch

Call = Callable[[], object]
Name = TypeVar('Name', bound=Hashable)
#: of a side, however slow
LEAST_RUNS = 3
#: seconds of a call to which what the first call alone has to do adds nothing
LONG = 1.0


def cpu_clock(call: Call) -> float:
    """Seconds that the call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cuda_clock(call: Call) -> float:
    """Seconds between two events on the GPU, with nothing else in flight."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def clock_of(device: str) -> Callable[[Call], float]:
    return cuda_clock if device == 'cuda' else cpu_clock


def schedule(runs: dict[Name, int], seed: int) -> list[list[Name]]:
    """Rounds in which every name comes at most once, in random order; one of fewer runs is spread evenly over the rounds."""
    shuffle = random.Random(seed).shuffle
    most = max(runs.values(), default=0)
    rounds = [[name for name, count in runs.items() if (i + 1) * count // most > i * count // most] for i in range(most)]
    for names in rounds:
        shuffle(names)
    return rounds


def interleave(
    calls: dict[Name, Call], *, rounds: int, seconds: float, seed: int = 0, clock: Callable[[Call], float] = cpu_clock
) -> dict[Name, list[float]]:
    """Times of every call, in seconds, after one or two calls to warm up: one a round, in fewer rounds if they would take more than ``seconds``."""
    runs = {}
    for name, call in calls.items():
        first = clock(call)
        estimate = first if first > LONG else clock(call)
        runs[name] = max(LEAST_RUNS, min(rounds, int(seconds / max(estimate, 1e-9))))
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for names in schedule(runs, seed):
        for name in names:
            times[name].append(clock(calls[name]))
    return times


def summary(times: list[float]) -> dict[str, float | int]:
    """Median and quartiles in milliseconds."""
    low, middle, high = (1e3 * t for t in statistics.quantiles(times, n=4, method='inclusive'))
    return {'median_ms': middle, 'low_ms': low, 'high_ms': high, 'runs': len(times)}

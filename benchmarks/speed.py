"""How long the sides take: against each other, with more threads, and in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch

from .cases import Case
from .problem import Problem, draw
from .sides import CONV2D, Bound, Side, ours
from .timing import Call, Name, clock_of, cpu_clock, interleave, summary
from .verify import Examination, Verdict

MODES = ('forward', 'forward_backward')


@dataclass(frozen=True)
class Options:
    """How much to measure: a side takes ``rounds`` runs or about ``seconds``; a bounded one is left out where it would take more than ``limit``."""

    dtype: torch.dtype = torch.float32
    device: str = 'cpu'
    rounds: int = 15
    seconds: float = 0.5
    limit: float = 2.0
    seed: int = 0

    def time(self, calls: dict[Name, Call], clock: Callable[[Call], float] | None = None) -> dict[Name, dict[str, float | int]]:
        """Median and quartiles of every call, taken in turn."""
        clock = clock or clock_of(self.device)
        times = interleave(calls, rounds=self.rounds, seconds=self.seconds, seed=self.seed, clock=clock)
        return {name: summary(values) for name, values in times.items()}


def _record(verdict: Verdict) -> dict[str, Any]:
    if verdict.wrong:
        return {'failed': verdict.refusal, 'errors': verdict.errors, 'tolerances': verdict.tolerances}
    if verdict.refusal:
        return {'skipped': verdict.refusal}
    return {'errors': verdict.errors, 'tolerances': verdict.tolerances}


def _verified(problem: Problem, sides: list[Side]) -> tuple[Examination, dict[str, Verdict], list[Side]]:
    examination = Examination(problem)
    verdicts = {side.name: examination.judge(side) for side in sides}
    return examination, verdicts, [side for side in sides if verdicts[side.name].refusal is None]


def compare(case: Case, sides: list[Side], options: Options) -> dict[str, Any]:
    """Every side that is right on the case, forward and forward + backward."""
    problem = draw(case, options.dtype, options.device)
    examination, verdicts, right = _verified(problem, sides)
    results = {name: _record(verdict) for name, verdict in verdicts.items()}
    for mode in MODES:
        calls = {}
        for side in right:
            estimate = verdicts[side.name].seconds.get(mode, 0.0)
            if side.bounded and estimate > options.limit:
                results[side.name][mode] = {'skipped': f'about {estimate:.2g} s a call, the limit is {options.limit:g} s'}
            else:
                calls[side.name] = getattr(Bound(side, problem), mode)
        for name, times in options.time(calls).items():
            results[name][mode] = times
    verified = {'batch': examination.problem.case.batch, 'size': examination.problem.case.size, 'pixels_with_gradient': examination.smooth}
    return {'verified_on': verified, 'sides': results}


def scale_threads(case: Case, backend: str, options: Options, counts: tuple[int, int]) -> dict[str, Any]:
    """Forward + backward with few threads and with many, in turn in one process."""
    problem = draw(case, options.dtype, options.device)
    _, verdicts, right = _verified(problem, _compared(backend))
    calls: dict[tuple[str, str], Call] = {}
    for side in right:
        call = Bound(side, problem).forward_backward
        calls |= {(side.name, f'threads_{count}'): partial(_with_threads, count, call) for count in counts}
    results = {name: _record(verdict) for name, verdict in verdicts.items()}
    before = torch.get_num_threads()
    try:
        for (name, threads), times in options.time(calls, clock=lambda call: cast(float, call())).items():
            results[name][threads] = times
    finally:
        torch.set_num_threads(before)
    return {'sides': results}


def _compared(backend: str) -> list[Side]:
    return [CONV2D, ours('metric_conv2d', backend), ours('MetricConv2d', backend)]


def _with_threads(count: int, call: Call) -> float:
    """Seconds of the call: not of starting the threads, which a short piece of parallel work has done before."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
        torch.ones(1 << 18).add_(1)
    return cpu_clock(call)


def compare_precisions(case: Case, backend: str, options: Options) -> dict[str, Any]:
    """float32 and bfloat16 in turn."""
    results: dict[str, dict[str, Any]] = {}
    calls: dict[tuple[str, str, str], Call] = {}
    for dtype in ('float32', 'bfloat16'):
        problem = draw(case, getattr(torch, dtype), options.device)
        _, verdicts, right = _verified(problem, _compared(backend))
        for name, verdict in verdicts.items():
            results.setdefault(name, {})[dtype] = _record(verdict)
        for side in right:
            calls |= {(side.name, dtype, mode): getattr(Bound(side, problem), mode) for mode in MODES}
    for (name, dtype, mode), times in options.time(calls).items():
        results[name][dtype][mode] = times
    return {'sides': results}

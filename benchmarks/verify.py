"""No side is timed before it has computed the right numbers on the case: output and every gradient against the reference backend in float64.

The tolerance is relative to what float32 costs anyone: a small multiple of nn.Conv2d's own error on the same numbers (that of the output, input or
weight; the largest of them for the rest), plus the rounding of a position of as many pixels as the image is wide. A layer's predictor rounds
before there are positions, so what its reference backend loses in the same dtype counts as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metricconv_mm import geometry, use_backend

from .problem import EPS, SUPPORT, Problem
from .sides import CONV2D, OPERATIONS, Bound, Side, make_layer, ours
from .timing import clock_of

MULTIPLE = 4
#: samples times channels that a verification works on: a second or two in float64
WORK = 1 << 21
Results = dict[str, Tensor]


@dataclass
class Verdict:
    """``refusal`` says why the side may not be timed: ``wrong`` if it must be able to; ``seconds`` are those of a call on the verified part."""

    errors: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    refusal: str | None = None
    wrong: bool = False


def smooth_pixels(problem: Problem) -> Tensor:
    """Output pixels [N, Ho, Wo] at which no sample, of any operation, is so near a line of pixels that rounding could move it across.

    The derivative by the position jumps there, so that neither side of the line is wrong. Samples exactly on a line are kept: zero stays zero.
    """
    case = problem.case
    near = min(1e-3, 0.025 / case.taps)
    with torch.no_grad(), use_backend('reference'):
        ball = geometry.tangent_ball(problem['metric'], SUPPORT, case.kernel, EPS)
        predicted = make_layer(problem).samples(problem['input'])
    smooth = torch.ones_like(ball[:, 0, 0], dtype=torch.bool)
    for samples in (ball, predicted, problem['shift'].unsqueeze(1)):
        distance = (samples - samples.round()).abs()
        smooth &= ~((distance < near) & (distance > 1e-12)).flatten(1, 2).any(1)
    return smooth


def _results(bound: Bound) -> Results:
    out, gradients = bound.forward_backward()
    return {'output': out.detach(), **dict(zip(bound.leaves, gradients, strict=True))}


def _errors(actual: Results, exact: Results) -> dict[str, float]:
    return {name: ((actual[name].double() - value).norm() / value.norm()).item() for name, value in exact.items()}


class Examination:
    """A case against which sides are held."""

    def __init__(self, problem: Problem) -> None:
        cropped = problem.crop(WORK)
        exact = cropped.to(torch.float64)
        smooth = smooth_pixels(exact)
        self.problem, self._exact_problem = cropped.with_gradient_where(smooth), exact.with_gradient_where(smooth)
        self.share = self.problem.case.work / problem.case.work
        self.smooth = smooth.double().mean().item()
        self._exact: dict[str, Results] = {}
        self._tolerances: dict[str, dict[str, float]] = {}
        self._conv2d = _errors(_results(Bound(CONV2D, self.problem)), self.exact('conv2d'))

    def exact(self, operation: str) -> Results:
        if operation not in self._exact:
            backend = None if operation == 'conv2d' else 'reference'
            side = Side(operation, operation, OPERATIONS[operation], backend)
            self._exact[operation] = _results(Bound(side, self._exact_problem))
        return self._exact[operation]

    def tolerances(self, operation: str) -> dict[str, float]:
        if operation not in self._tolerances:
            position = torch.finfo(torch.float32).eps * self.problem.case.size
            base = {name: self._conv2d.get(name, max(self._conv2d.values())) + position for name in self.exact(operation)}
            if operation == 'MetricConv2d':
                own = _errors(_results(Bound(ours(operation, 'reference'), self.problem)), self.exact(operation))
                base = {name: value + own[name] for name, value in base.items()}
            self._tolerances[operation] = {name: MULTIPLE * value for name, value in base.items()}
        return self._tolerances[operation]

    def judge(self, side: Side) -> Verdict:
        """The verdict on a side; an exception is a refusal, not an end."""
        try:
            bound = Bound(side, self.problem)
            results = _results(bound)
            verdict = Verdict(_errors(results, self.exact(side.operation)), self.tolerances(side.operation))
            verdict.refusal = '; '.join(_complaints(bound, results, self.exact(side.operation), verdict)) or None
            verdict.wrong = verdict.refusal is not None
            clock = clock_of(self.problem.device.type)
            verdict.seconds = {mode: clock(getattr(bound, mode)) / self.share for mode in ('forward', 'forward_backward')} if side.bounded else {}
            return verdict
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            # what others do not support is their affair; ours may refuse a call, but not fail
            excused = side.foreign or 'cannot run on backend' in str(error)
            return Verdict(refusal=f'{type(error).__name__}: {str(error).splitlines()[0]}', wrong=not excused)


def _complaints(bound: Bound, results: Results, exact: Results, verdict: Verdict) -> Iterator[str]:
    without = ((bound.forward().double() - exact['output']).norm() / exact['output'].norm()).item()
    if not without <= verdict.tolerances['output']:
        yield f'output without gradients: relative error {without:.1e}, tolerated {verdict.tolerances["output"]:.1e}'
    for name, error in verdict.errors.items():
        dtype = (bound.grad if name == 'output' else bound.leaves[name]).dtype
        if results[name].dtype != dtype:
            yield f'{name}: dtype {results[name].dtype} instead of {dtype}'
        if not error <= verdict.tolerances[name]:
            yield f'{name}: relative error {error:.1e}, tolerated {verdict.tolerances[name]:.1e}'

"""Who is measured: nn.Conv2d, the deformable convolutions of others, and ours on every backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from metricconv_mm import MetricConv2d, functional, ops

from .problem import EPS, SUPPORT, Problem

Bind = Callable[[Problem], tuple[Callable[[], Tensor], dict[str, Tensor]]]


def _leaves(problem: Problem, *names: str) -> dict[str, Tensor]:
    return {name: problem[name].detach().requires_grad_() for name in names}


def _options(problem: Problem) -> dict[str, Any]:
    return {'stride': problem.case.stride, 'padding': problem.case.padding, 'groups': problem.case.groups}


def _conv2d(problem: Problem) -> tuple[Callable[[], Tensor], dict[str, Tensor]]:
    leaves, options = _leaves(problem, 'input', 'weight'), _options(problem)
    return lambda: nn.functional.conv2d(leaves['input'], leaves['weight'], **options), leaves


def _ours(operator: Callable[..., Tensor], parameter: str, **extra: object) -> Bind:
    def bind(problem: Problem) -> tuple[Callable[[], Tensor], dict[str, Tensor]]:
        leaves, options = _leaves(problem, 'input', parameter, 'weight'), {**_options(problem), **extra}
        return lambda: operator(*leaves.values(), **options), leaves

    return bind


def make_layer(problem: Problem) -> MetricConv2d:
    """The whole layer: predictor, encoding, operator."""
    case, low, high = problem.case, 0.1 / problem.case.radius**2, 1.5 / problem.case.radius**2
    sizes = (case.channels, case.out_channels, case.kernel)
    layer = MetricConv2d(*sizes, **_options(problem), bias=False, support=SUPPORT, scale_range=(low, high), eps=EPS)
    layer = layer.to(problem.device, problem.dtype)
    layer.load_state_dict({name: problem[name] for name in layer.state_dict()})
    return layer


def _layer(problem: Problem) -> tuple[Callable[[], Tensor], dict[str, Tensor]]:
    layer, leaves = make_layer(problem), _leaves(problem, 'input')
    return lambda: layer(leaves['input']), {**leaves, **dict(layer.named_parameters())}


def _torchvision(problem: Problem) -> tuple[Callable[[], Tensor], dict[str, Tensor]]:
    from torchvision.ops import deform_conv2d

    leaves, options = _leaves(problem, 'input', 'offset', 'weight'), _options(problem)
    options.pop('groups')  # read from the weight's shape
    return lambda: deform_conv2d(*leaves.values(), **options), leaves


def _mmcv(problem: Problem) -> tuple[Callable[[], Tensor], dict[str, Tensor]]:
    from mmcv.ops import deform_conv2d

    leaves, o = _leaves(problem, 'input', 'offset', 'weight'), _options(problem)
    return lambda: deform_conv2d(*leaves.values(), o['stride'], o['padding'], 1, o['groups'], 1), leaves


#: what the float64 reference computes; the sides of a name of OURS run it by backend
OPERATIONS: dict[str, Bind] = {
    'conv2d': _conv2d,
    'metric_conv2d': _ours(functional.metric_conv2d, 'metric', support=SUPPORT, eps=EPS),
    'deform_conv2d': _ours(functional.deform_conv2d, 'offset'),
    'shifted_conv2d': _ours(functional.shifted_conv2d, 'shift'),
    'MetricConv2d': _layer,
}
OURS = tuple(name for name in OPERATIONS if name != 'conv2d')


@dataclass(frozen=True)
class Side:
    """An implementation of an operation. A bounded one is timed only where that takes little."""

    name: str
    operation: str
    bind: Bind
    backend: str | None = None
    bounded: bool = False

    @property
    def foreign(self) -> bool:
        """Not of this package."""
        return self.backend is None

    def context(self) -> AbstractContextManager[None]:
        return ops.use_backend(self.backend) if self.backend else nullcontext()


class Bound:
    """A side with the tensors of a problem."""

    def __init__(self, side: Side, problem: Problem) -> None:
        self.side, self.grad = side, problem['grad']
        self.run, self.leaves = side.bind(problem)

    def forward(self) -> Tensor:
        with torch.no_grad(), self.side.context():
            return self.run()

    def forward_backward(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The output and every gradient; none accumulates."""
        with self.side.context():
            out = self.run()
            return out, torch.autograd.grad(out, list(self.leaves.values()), self.grad)


CONV2D = Side('conv2d', 'conv2d', _conv2d)
TORCHVISION = Side('torchvision.deform_conv2d', 'deform_conv2d', _torchvision, bounded=True)
MMCV = Side('mmcv.deform_conv2d', 'deform_conv2d', _mmcv, bounded=True)


def ours(operation: str, backend: str) -> Side:
    return Side(f'{operation}/{backend}', operation, OPERATIONS[operation], backend, bounded=backend == 'reference')


def named(name: str) -> Side:
    """A side by its name, whether or not it runs here."""
    others = {side.name: side for side in (CONV2D, TORCHVISION, MMCV)}
    return others[name] if name in others else ours(*name.split('/'))


@cache
def available() -> tuple[list[Side], dict[str, str]]:
    """The sides that this machine can run, and why not the others."""
    sides, absent = [CONV2D], {}
    for side, module in ((TORCHVISION, 'torchvision.ops'), (MMCV, 'mmcv.ops')):
        try:
            __import__(module)
        except ImportError as error:
            absent[side.name] = str(error)
        else:
            sides.append(side)
    for name, backend in ops.BACKENDS.items():
        if reason := backend.missing():
            absent[f'backend {name}'] = reason
        else:
            sides += [ours(operation, name) for operation in OURS]
    return sides, absent

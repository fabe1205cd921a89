"""geodesic_ball: one call of it, the checks that eager and fake kernels share, and its definition, which is geometry's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.flow import Flow, check_stencil
from ..geometry.geodesic import check_field, chunks, field_kernels, flow_rows, flow_samples
from ..geometry.tangent import scale_to_ball

#: (kernels, samples, flow) -> flown samples, and (grad, kernels, samples, flow) -> gradients of kernels and samples
Forward = Callable[[Tensor, Tensor, Flow], Tensor]
Backward = Callable[[Tensor, Tensor, Tensor, Flow], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class GeodesicCall:
    """Samples of the reference support in the unit tangent ball, ``scale`` times as large, after the flow of geometry/heat.py."""

    operator = 'geodesic_ball'

    metric: Tensor
    reference: Tensor
    heat_step: float
    scale: float
    eps: float
    flow: Flow

    @property
    def output_shape(self) -> tuple[int, int, int, int, int]:
        n, _, height, width = self.metric.shape
        return n, self.reference.shape[0], 2, height, width

    def check(self) -> GeodesicCall:
        """Raise ValueError or TypeError, naming what was expected and what came; return the call itself."""
        check_stencil(self.scale, self.eps)
        metric, reference = self.metric, self.reference
        if metric.dtype not in (torch.float32, torch.float64):
            raise TypeError(f'{self.operator}: expected metric in float32 or float64, got {metric.dtype=}')
        if metric.dim() != 4 or metric.shape[1] != 5:
            raise ValueError(f'{self.operator}: expected metric [N, 5, H, W], got metric.shape={tuple(metric.shape)}')
        if reference.dim() != 2 or reference.shape[1] != 3 or reference.dtype != metric.dtype or reference.device != metric.device:
            raise ValueError(
                f'{self.operator}: expected a reference support [K, 3] of the dtype and device of metric, {metric.dtype} and {metric.device}, '
                f'got reference.shape={tuple(reference.shape)}, {reference.dtype=}, {reference.device=}'
            )
        return self

    def start(self, metric: Tensor) -> tuple[Tensor, Tensor]:
        """Heat kernels ``[N, T, H, W]`` and samples ``[N, K, 2, H, W]`` before they flow, differentiable."""
        return field_kernels(metric, self.heat_step, self.flow), self.scale * scale_to_ball(metric, self.reference, self.eps)


def run(call: GeodesicCall, forward: Forward) -> Tensor:
    """The operator, its flow run by a backend."""
    if not call.metric.numel():
        return call.metric.new_empty(call.output_shape)
    check_field(call.metric)
    with _precise(call):
        kernels, samples = call.start(call.metric)
        return forward(kernels, samples, call.flow).contiguous()


def run_backward(call: GeodesicCall, grad: Tensor, backward: Backward) -> Tensor:
    """Its gradient, everything computed again."""
    if not call.metric.numel():
        return torch.zeros_like(call.metric)
    with _precise(call):
        # torch.func, because autograd itself records nothing inside an operator
        started = torch.func.vjp(call.start, call.metric)
        (kernels, samples), pull = started[0], started[1]
        return pull(backward(grad.contiguous(), kernels, samples, call.flow))[0].contiguous()


def _precise(call: GeodesicCall) -> AbstractContextManager:
    """No autocast inside: half a mantissa is not enough for positions."""
    return torch.autocast(call.metric.device.type, enabled=False)


def forward(kernels: Tensor, samples: Tensor, flow: Flow) -> Tensor:
    """The flow in plain PyTorch, differentiable as often as one likes."""
    return flow_samples(kernels, samples, flow)


def backward(grad: Tensor, kernels: Tensor, samples: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
    """Its gradients, a chunk at a time."""
    grad_kernels, grad_samples = torch.zeros_like(kernels), torch.zeros_like(samples)
    for images, rows in chunks(kernels, flow):
        part = (images, slice(None), slice(None), rows)
        pull = torch.func.vjp(lambda k, s, rows=rows: flow_rows(k, s, rows, flow), kernels[images], samples[part])[1]
        by_kernels, grad_samples[part] = pull(grad[part])
        grad_kernels[images] += by_kernels
    return grad_kernels, grad_samples

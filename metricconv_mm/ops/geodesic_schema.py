"""geodesic_ball as torch.ops.metricconv_mm sees it: metric [N, 5, H, W] and a support [K, 3] to samples [N, K, 2, H, W], saving nothing but them.

metric is float32 or float64, and alone differentiable. What depends on its values, such as the size of the windows, is decided inside, where
torch.compile does not look.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ..geometry.flow import Flow
from . import backends
from . import geodesic as reference
from .call import pair_of
from .geodesic import GeodesicCall

_QUALIFIED = 'metricconv_mm::geodesic_ball'
_CONSTANTS = (
    'Tensor reference, float heat_step, float scale, float eps, int heat_steps, float flow_step, int flow_steps, float flow_eps, float threshold, '
    'int[2] spacing, int? window'
)

torch.library.define(_QUALIFIED, f'(Tensor metric, {_CONSTANTS}) -> Tensor')
torch.library.define(f'{_QUALIFIED}_backward', f'(Tensor grad, Tensor metric, {_CONSTANTS}) -> Tensor')


def _call(metric: Tensor, support: Tensor, heat_step: float, scale: float, eps: float, *flow: Any) -> GeodesicCall:
    steps = Flow._make(flow)
    return GeodesicCall(metric, support, heat_step, scale, eps, steps._replace(spacing=pair_of(steps.spacing))).check()


@torch.library.impl(_QUALIFIED, 'default')
def _forward(metric: Tensor, *constants: Any) -> Tensor:
    call = _call(metric, *constants)
    return reference.run(call, backends.select_flow(call).forward)


@torch.library.impl(f'{_QUALIFIED}_backward', 'default')
def _backward(grad: Tensor, metric: Tensor, *constants: Any) -> Tensor:
    call = _call(metric, *constants)
    return reference.run_backward(call, grad, backends.select_flow(call).backward)


@torch.library.register_fake(_QUALIFIED)
def _forward_fake(metric: Tensor, *constants: Any) -> Tensor:
    return metric.new_empty(_call(metric, *constants).output_shape)


@torch.library.register_fake(f'{_QUALIFIED}_backward')
def _backward_fake(grad: Tensor, metric: Tensor, *constants: Any) -> Tensor:
    return metric.new_empty(_call(metric, *constants).metric.shape)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    metric, support, *ctx.constants = inputs
    ctx.save_for_backward(metric, support)
    ctx.backend = backends.requested()


def _first_order(ctx: Any, grad: Tensor) -> tuple:
    # as the forward was asked to run, wherever and in whichever thread the backward comes
    with backends.use_backend(ctx.backend) if ctx.backend else nullcontext():
        gradient = torch.ops.metricconv_mm.geodesic_ball_backward(grad, *ctx.saved_tensors, *ctx.constants)
    return (gradient, None, *(None for _ in ctx.constants))


def _setup_backward(ctx: Any, inputs: tuple, output: Tensor) -> None:
    grad, metric, support, *ctx.constants = inputs
    ctx.save_for_backward(grad, metric, support)


def _second_order(ctx: Any, grad_gradient: Tensor) -> tuple:
    """Through the reference: the gradient of <backward(grad, metric), grad_gradient>."""
    *tensors, support = ctx.saved_tensors
    grad, metric = (t.detach().requires_grad_() for t in tensors)
    with torch.enable_grad():
        samples = reference.run(_call(metric, support, *ctx.constants), reference.forward)
        (gradient,) = torch.autograd.grad(samples, metric, grad, create_graph=True)
    seconds = torch.autograd.grad(gradient, (grad, metric), grad_gradient, allow_unused=True)
    return (*seconds, None, *(None for _ in ctx.constants))


torch.library.register_autograd(_QUALIFIED, _first_order, setup_context=_setup)
torch.library.register_autograd(f'{_QUALIFIED}_backward', _second_order, setup_context=_setup_backward)

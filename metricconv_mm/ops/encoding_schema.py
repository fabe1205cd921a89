"""encode_metric as torch.ops.metricconv_mm sees it: raw [N, G * channels, H, W] to metric [N, G * 5, H, W], saving nothing but raw.

raw may have any layout and floating dtype, which its gradient shares; metric is contiguous, in float32, or float64 for float64.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ..geometry import Limits
from . import backends
from . import encoding as reference
from .encoding import EncodingCall

_QUALIFIED = 'metricconv_mm::encode_metric'
_CONSTANTS = 'str encoding, str drift, float eps_w, float scale_low, float scale_high, float eps_L, float eps, float? ceiling'

torch.library.define(_QUALIFIED, f'(Tensor raw, {_CONSTANTS}) -> Tensor')
torch.library.define(f'{_QUALIFIED}_backward', f'(Tensor grad, Tensor raw, {_CONSTANTS}) -> Tensor')


def _call(raw: Tensor, encoding: str, drift: str, eps_w: float, low: float, high: float, eps_L: float, eps: float, ceiling: Any) -> EncodingCall:
    return EncodingCall(raw, encoding, drift, Limits(eps_w, (low, high), eps_L, eps), ceiling).check()


@torch.library.impl(_QUALIFIED, 'default')
def _forward(raw: Tensor, *constants: Any) -> Tensor:
    call = _call(raw, *constants)
    return backends.select_encoder(call).forward(call)


@torch.library.impl(f'{_QUALIFIED}_backward', 'default')
def _backward(grad: Tensor, raw: Tensor, *constants: Any) -> Tensor:
    call = _call(raw, *constants)
    return backends.select_encoder(call).backward(call, grad)


@torch.library.register_fake(_QUALIFIED)
def _forward_fake(raw: Tensor, *constants: Any) -> Tensor:
    call = _call(raw, *constants)
    return raw.new_empty(call.output_shape, dtype=call.dtype)


@torch.library.register_fake(f'{_QUALIFIED}_backward')
def _backward_fake(grad: Tensor, raw: Tensor, *constants: Any) -> Tensor:
    return torch.empty_like(raw, memory_format=_call(raw, *constants).memory_format())


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    raw, *ctx.constants = inputs
    ctx.save_for_backward(raw)
    ctx.backend = backends.requested()


def _first_order(ctx: Any, grad: Tensor) -> tuple:
    # as the forward was asked to run, wherever and in whichever thread the backward comes
    with backends.use_backend(ctx.backend) if ctx.backend else nullcontext():
        gradient = torch.ops.metricconv_mm.encode_metric_backward(grad, *ctx.saved_tensors, *ctx.constants)
    return (gradient, *(None for _ in ctx.constants))


def _setup_backward(ctx: Any, inputs: tuple, output: Tensor) -> None:
    grad, raw, *ctx.constants = inputs
    ctx.save_for_backward(grad, raw)


def _second_order(ctx: Any, grad_gradient: Tensor) -> tuple:
    """Through the reference: the gradient of <backward(grad, raw), grad_gradient>."""
    grad, raw = (t.detach().requires_grad_() for t in ctx.saved_tensors)
    with torch.enable_grad():
        metric = reference.forward(_call(raw, *ctx.constants))
        (gradient,) = torch.autograd.grad(metric, raw, grad, create_graph=True)
    seconds = torch.autograd.grad(gradient, (grad, raw), grad_gradient, allow_unused=True)
    return (*seconds, *(None for _ in ctx.constants))


torch.library.register_autograd(_QUALIFIED, _first_order, setup_context=_setup)
torch.library.register_autograd(f'{_QUALIFIED}_backward', _second_order, setup_context=_setup_backward)

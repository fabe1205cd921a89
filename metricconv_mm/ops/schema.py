"""The operators as torch.ops.metricconv_mm sees them: schema, kernels, fake kernels, autograd and autocast, all from one table.

Layouts: input [N, C, H, W]; weight [C_out, C / groups, rows, columns]; bias [C_out]; mask [N, G * K, Ho, Wo]; the parameter (metric, shift or
offset) [N, G * channels, Ho, Wo], as :mod:`~metricconv_mm.ops.transforms` describes it. Positions are in pixels. Input, parameter, weight,
bias and mask are differentiable.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from . import backends, reference
from .call import Call, pair_of
from .transforms import TRANSFORMS

NAMESPACE = 'metricconv_mm'
#: operators that have a reference support
_WITH_SUPPORT = {name for name, transform in TRANSFORMS.items() if transform.norm}
_GEOMETRY = 'SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups'
_BACKWARD_RESULTS = ('input', 'parameter', 'weight', 'mask')
Needs = tuple[bool, bool, bool, bool]


def _call(name: str, input: Tensor, parameter: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, *rest: Any) -> Call:
    support, eps = (rest[0], rest[1]) if name in _WITH_SUPPORT else (None, 0.0)
    stride, padding, dilation, groups = rest[-4:]
    return Call(name, input, parameter, weight, bias, mask, support, eps, pair_of(stride), pair_of(padding), pair_of(dilation), groups)


def _gradient_like(call: Call, which: str) -> Tensor:
    tensor = getattr(call, which)
    if which == 'input':
        return torch.empty_like(tensor, memory_format=call.memory_format())
    return tensor.new_empty(tensor.shape)


def _define(name: str) -> None:
    extra, parameter = 'Tensor reference, float eps, ' if name in _WITH_SUPPORT else '', TRANSFORMS[name].parameter
    qualified = f'{NAMESPACE}::{name}'
    torch.library.define(qualified, f'(Tensor input, Tensor {parameter}, Tensor weight, Tensor? bias, Tensor? mask, {extra}{_GEOMETRY}) -> Tensor')
    torch.library.define(
        f'{qualified}_backward',
        f'(Tensor grad, Tensor input, Tensor {parameter}, Tensor weight, Tensor? mask, {extra}{_GEOMETRY}, bool[4] needs)'
        ' -> (Tensor, Tensor, Tensor, Tensor)',
    )

    def forward(*args: Any) -> Tensor:
        call = _call(name, *args).check()
        return backends.select(call).forward(call)

    def forward_fake(*args: Any) -> Tensor:
        call = _call(name, *args).check()
        return call.input.new_empty(call.output_shape).contiguous(memory_format=call.memory_format())

    def checked(grad: Tensor, input: Tensor, parameter: Tensor, weight: Tensor, mask: Tensor | None, *rest: Any) -> tuple[Call, Needs]:
        call = _call(name, input, parameter, weight, None, mask, *rest[:-1]).check()
        call.check_grad(grad)
        by_input, by_parameter, by_weight, by_mask = rest[-1]
        return call, (by_input, by_parameter, by_weight, by_mask and mask is not None)

    def backward(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
        call, needs = checked(grad, *args)
        gradients = backends.select(call).backward(call, grad, needs)
        return tuple(grad.new_empty(0) if g is None else g.contiguous() if i else g for i, g in enumerate(gradients))

    def backward_fake(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
        call, needs = checked(grad, *args)
        return tuple(_gradient_like(call, which) if needed else grad.new_empty(0) for which, needed in zip(_BACKWARD_RESULTS, needs, strict=True))

    torch.library.impl(qualified, 'default', forward)
    torch.library.impl(f'{qualified}_backward', 'default', backward)
    torch.library.register_fake(qualified, forward_fake)
    torch.library.register_fake(f'{qualified}_backward', backward_fake)
    _register_autograd(name, qualified)
    for device, key in (('cpu', 'AutocastCPU'), ('cuda', 'AutocastCUDA')):
        torch.library.impl(qualified, key, _autocast(qualified, device, key))


def _register_autograd(name: str, qualified: str) -> None:
    operators = getattr(torch.ops, NAMESPACE)

    def setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
        input, parameter, weight, bias, mask, *rest = inputs
        support = [rest.pop(0)] if name in _WITH_SUPPORT else []
        ctx.save_for_backward(input, parameter, weight, mask, *support)
        ctx.rest = rest
        ctx.with_bias = bias is not None
        ctx.backend = backends.requested()

    def first_order(ctx: Any, grad: Tensor) -> tuple:
        input, parameter, weight, mask, *support = ctx.saved_tensors
        rest = [*support, *ctx.rest]
        wanted = ctx.needs_input_grad
        needs = [wanted[0], wanted[1], wanted[2], mask is not None and wanted[4]]
        # as the forward was asked to run, wherever and in whichever thread the backward comes
        with backends.use_backend(ctx.backend) if ctx.backend else nullcontext():
            gradients = getattr(operators, f'{name}_backward')(grad, input, parameter, weight, mask, *rest, needs)
        grad_input, grad_parameter, grad_weight, grad_mask = (g if n else None for g, n in zip(gradients, needs, strict=True))
        grad_bias = grad.sum((0, 2, 3)) if ctx.with_bias and wanted[3] else None
        return (grad_input, grad_parameter, grad_weight, grad_bias, grad_mask, *(None for _ in rest))

    def setup_backward(ctx: Any, inputs: tuple, output: tuple) -> None:
        grad, input, parameter, weight, mask, *rest = inputs
        support = [rest.pop(0)] if name in _WITH_SUPPORT else []
        ctx.save_for_backward(grad, input, parameter, weight, mask, *support)
        ctx.rest, ctx.needs = rest[:-1], rest[-1]
        ctx.support = len(support)

    def second_order(ctx: Any, *grads: Tensor) -> tuple:
        """Through the reference: the gradient of <backward(grad, tensors), grads>."""
        saved = [t if t is None else t.detach().requires_grad_(i < 5) for i, t in enumerate(ctx.saved_tensors)]
        grad, input, parameter, weight, mask, *support = saved
        with torch.enable_grad():
            call = _call(name, input, parameter, weight, None, mask, *support, *ctx.rest)  # type: ignore[arg-type]
            tensors = (input, parameter, weight, mask)
            leaves = [(leaf, g) for leaf, g, n in zip(tensors, grads, ctx.needs, strict=True) if n and leaf is not None]
            firsts = torch.autograd.grad(
                reference.forward(call, differentiable=True), [leaf for leaf, _ in leaves], grad, create_graph=True, allow_unused=True
            )
            product = torch.stack([(first * g).sum() for first, (_, g) in zip(firsts, leaves, strict=True) if first is not None]).sum()
            wanted = [t for t in (grad, input, parameter, weight, mask) if t is not None]
            seconds = iter(torch.autograd.grad(product, wanted, allow_unused=True))
        results = [None if t is None else next(seconds) for t in (grad, input, parameter, weight, mask)]
        return (*results, *(None for _ in range(ctx.support + len(ctx.rest) + 1)))

    torch.library.register_autograd(qualified, first_order, setup_context=setup)
    torch.library.register_autograd(f'{qualified}_backward', second_order, setup_context=setup_backward)


def _autocast(qualified: str, device: str, key: str) -> Callable[..., Tensor]:
    """Everything in the autocast dtype, but the parameter in float32: positions lose too much in half precision."""
    operator = getattr(getattr(torch.ops, NAMESPACE), qualified.split('::')[1])
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def cast(tensor: Any, dtype: torch.dtype) -> Any:
        eligible = isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.dtype != torch.float64
        return tensor.to(dtype) if eligible else tensor

    def kernel(input: Tensor, parameter: Tensor, *rest: Any) -> Tensor:
        dtype = torch.get_autocast_dtype(device)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            tensors = [cast(t, dtype) for t in rest[:3]]
            return operator(cast(input, dtype), cast(parameter, torch.float32), *tensors, *rest[3:])

    return kernel


for _name in TRANSFORMS:
    _define(_name)

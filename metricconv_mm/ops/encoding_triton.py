"""encode_metric in Triton (triton/encoding.py): every pixel read once, in any dtype and layout, and written once."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ..geometry import ENCODINGS as CHANNELS
from .encoding import EncodingCall
from .encoding_cpu import DRIFTS, ENCODINGS
from .triton import CAPABILITY, interpreted

#: pixels of a program
BLOCK = 256


def refusal(call: EncodingCall) -> str | None:
    """Why the backend cannot run ``call``."""
    raw = call.raw
    if raw.device.type != 'cuda' and not (interpreted() and raw.device.type == 'cpu'):
        return f'raw is on {raw.device}'
    if raw.dtype == torch.float64:
        return f'it computes in float32, and raw is {raw.dtype}'
    if raw.is_cuda and torch.cuda.get_device_capability(raw.device) < CAPABILITY:
        return f'{raw.device} has compute capability {torch.cuda.get_device_capability(raw.device)}, below {CAPABILITY}'
    return None


def constants(call: EncodingCall) -> dict[str, Any]:
    """The arguments known when a kernel is compiled."""
    eps_w, (low, high), eps_L, eps = call.limits
    return {
        'ENCODING': ENCODINGS[call.encoding],
        'DRIFT': DRIFTS[call.drift],
        'MATRIX': CHANNELS[call.encoding].channels,
        'CHANNELS': call.channels,
        'BOUND': 0.0 if call.drift == 'none' else 1 - eps_w,
        'LOW': low,
        'SPREAD': high - low,
        'EPS_L': eps_L,
        'EPS': eps,
        'CEILING': call.ceiling or 0.0,
        'BLOCK': BLOCK,
    }


def _launch(kernel: Any, call: EncodingCall, *arguments: Any) -> None:
    n, _, height, width = call.raw.shape
    pixels = height * width
    programs = n * call.groups * -(-pixels // BLOCK)
    if programs:
        with torch.cuda.device(call.raw.device) if call.raw.is_cuda else nullcontext():
            # products are rounded before they are added, as in the reference: fused, differences of equal products would not be zero
            kernel[(programs,)](*arguments, **constants(call), num_warps=4, enable_fp_fusion=False)


def forward(call: EncodingCall) -> Tensor:
    """The operator."""
    from .triton import encoding as kernels

    raw, metric = call.raw.flatten(2), call.raw.new_empty(call.output_shape, dtype=call.dtype)
    _launch(kernels.encode, call, raw, metric, raw.shape[2], call.groups, *raw.stride())
    return metric


def backward(call: EncodingCall, grad: Tensor) -> Tensor:
    """Its gradient, from raw alone."""
    from .triton import encoding as kernels

    gradient = torch.empty_like(call.raw, memory_format=call.memory_format())
    flat = [t.flatten(2) for t in (grad, call.raw, gradient)]
    _launch(kernels.encode_backward, call, *flat, flat[0].shape[2], call.groups, *(s for t in flat for s in t.stride()))
    return gradient

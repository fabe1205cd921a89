"""encode_metric in C++ (csrc/encoding.cpp): every pixel read once and written once."""

from __future__ import annotations

import torch
from torch import Tensor

from .encoding import EncodingCall

ENCODINGS = {'cholesky': 0, 'ldl': 1, 'spectral': 2, 'spectral_scaled': 3, 'isotropic': 4}
DRIFTS = {'sigmoid': 0, 'sigmoid_detached': 1, 'clip_detached': 2, 'none': 3}


def refusal(call: EncodingCall) -> str | None:
    """Why the backend cannot run ``call``."""
    return None if call.raw.device.type == 'cpu' else f'raw is on {call.raw.device}'


def _constants(call: EncodingCall) -> tuple[int, int, list[float]]:
    eps_w, (low, high), eps_L, eps = call.limits
    return ENCODINGS[call.encoding], DRIFTS[call.drift], [1.0 if call.drift == 'none' else eps_w, low, high, eps_L, eps, call.ceiling or 0.0]


def forward(call: EncodingCall) -> Tensor:
    """The operator."""
    metric = call.raw.new_empty(call.output_shape, dtype=call.dtype)
    torch.ops.metricconv_mm_cpu.encode_metric(call.raw.to(call.dtype).flatten(2), *_constants(call), metric.flatten(2))
    return metric


def backward(call: EncodingCall, grad: Tensor) -> Tensor:
    """Its gradient, from raw alone."""
    gradient = torch.empty_like(call.raw, dtype=call.dtype, memory_format=call.memory_format())
    flat = (t.to(call.dtype).flatten(2) for t in (grad, call.raw))
    torch.ops.metricconv_mm_cpu.encode_metric_backward(*flat, *_constants(call), gradient.flatten(2))
    return gradient.to(call.raw.dtype)

"""The CUDA backend: Triton kernels that sample into registers and multiply there.

Triton comes with torch's CUDA wheels. It is imported at the first call that needs it, so that the package does without.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from ..call import Call
from ..reference import Gradients

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CAPABILITY = (8, 0)


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU: slow, for tests."""
    return os.environ.get('TRITON_INTERPRET', '').lower() in ('1', 'true', 'on', 'yes', 'y')


@cache
def missing() -> str | None:
    """Why the kernels cannot run here."""
    if torch.version.hip is not None:
        return 'it is written for CUDA, and this is torch for ROCm'
    if not interpreted() and not torch.cuda.is_available():
        return 'torch finds no CUDA device'
    try:
        import_module('triton')
    except ImportError as error:
        return f'triton cannot be imported ({error}): pip install triton'
    return None


def refusal(call: Call) -> str | None:
    """Why the backend cannot run ``call``."""
    input = call.input
    if input.device.type != 'cuda' and not (interpreted() and input.device.type == 'cpu'):
        return f'input is on {input.device}'
    if input.dtype not in DTYPES:
        return f'it computes in float32, and input is {input.dtype}'
    if 0 in (input.shape[1], call.weight.shape[0]):
        return 'there are no channels'
    if input.device.type == 'cuda' and torch.cuda.get_device_capability(input.device) < CAPABILITY:
        return f'{input.device} has compute capability {torch.cuda.get_device_capability(input.device)}, below {CAPABILITY}'
    return None


def forward(call: Call) -> Tensor:
    """The operator."""
    from . import launch

    return launch.forward(call)


def backward(call: Call, grad: Tensor, needs: tuple[bool, bool, bool, bool]) -> Gradients:
    """First-order gradients, the columns computed again."""
    from . import launch

    return launch.backward(call, grad, needs)

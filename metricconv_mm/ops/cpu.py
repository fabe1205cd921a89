"""The CPU backend: sampling and contraction in C++ (csrc/), a cache-sized tile of output pixels at a time."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .call import Call
from .reference import Gradients, accumulation_dtype
from .transforms import KINDS

#: another build of the extension to load, such as one with sanitizers
EXTENSION_VARIABLE = 'METRICCONV_EXTENSION'
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
#: what the extension says of itself if it was built from this version of csrc/: a kind or encoding that it does not know, it would misread
INTERFACE = 2
#: with a margin of one all around, pixels of an image are counted in 32 bits
MOST_PIXELS = 1 << 31


@cache
def missing() -> str | None:
    """Why the extension cannot run here; loads it the first time."""
    asked = os.environ.get(EXTENSION_VARIABLE)
    found = [Path(asked)] if asked else sorted(Path(__file__).parent.parent.glob('_C*.so'))
    if not found:
        return 'its extension is not built: install a C++20 compiler and run pip install --no-build-isolation -e .'
    try:
        torch.ops.load_library(found[0])
    except OSError as error:
        return f'its extension does not load with torch {torch.__version__} ({error.__cause__ or error}): build it again'
    if not hasattr(torch.ops.metricconv_mm_cpu, 'interface') or torch.ops.metricconv_mm_cpu.interface() != INTERFACE:
        return 'its extension is of another version of the package: build it again'
    return None


def refusal(call: Call) -> str | None:
    """Why the backend cannot run ``call``."""
    height, width = call.input.shape[2:]
    if call.input.device.type != 'cpu':
        return f'input is on {call.input.device}'
    if call.input.dtype not in DTYPES:
        return f'input is of dtype {call.input.dtype}'
    if (height + 2) * (width + 2) >= MOST_PIXELS:
        return f'an image of {height} x {width} pixels is too large: cut it into tiles of fewer than 2^31 pixels'
    return None


def _exchanged(matrices: Tensor) -> Tensor:
    """``[N, rows, columns]`` to ``[N, columns, rows]``, contiguous, in the dtype to compute with."""
    dtype = accumulation_dtype(matrices.dtype)
    out = matrices.new_empty(matrices.shape[0], matrices.shape[2], matrices.shape[1], dtype=dtype)
    torch.ops.metricconv_mm_cpu.transpose(_stored(matrices).contiguous(), out)
    return out


def _rows(image: Tensor) -> Tensor:
    """``[N, C, H, W]`` as ``[N, H, W, C]``, contiguous, in the dtype to compute with."""
    rows = image.permute(0, 2, 3, 1)
    return rows.to(accumulation_dtype(image.dtype)) if rows.is_contiguous() else _exchanged(image.flatten(2)).view(rows.shape)


def _stored(image: Tensor) -> Tensor:
    """In a dtype that the kernels read: float16 becomes float32."""
    return image.float() if image.dtype == torch.float16 else image


def _reads_rows(image: Tensor) -> bool:
    return image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()


def _arguments(call: Call) -> tuple[Tensor, Tensor, Tensor | None, Tensor, float, list[int]]:
    """(parameter, weight, mask, reference, eps, sizes) as the C++ code reads them."""
    dtype = accumulation_dtype(call.input.dtype)
    grid = call.tap_grid().grid(call.parameter.to(dtype)) if call.reference is None else call.reference
    sizes = [*call.output_size, *call.kernel_size, *call.stride, *call.padding, *call.dilation]
    return (
        call.parameter.to(dtype).contiguous(),
        call.weight.to(dtype).contiguous(),
        None if call.mask is None else call.mask.to(dtype).contiguous(),
        grid.to(dtype).contiguous(),
        call.eps,
        [*sizes, call.parameter_groups, KINDS[call.operator], call.groups],
    )


def forward(call: Call) -> Tensor:
    """The operator."""
    parameter, weight, *rest = _arguments(call)
    images = _rows(call.input)
    dtype = torch.float32 if call.input.dtype == torch.float16 else call.input.dtype
    out = torch.empty(call.output_shape, dtype=dtype, memory_format=call.memory_format())
    bias = None if call.bias is None else call.bias.to(weight.dtype).contiguous()
    torch.ops.metricconv_mm_cpu.forward(images, parameter, weight, bias, *rest, _reads_rows(out), out)
    return out.to(call.input.dtype)


def backward(call: Call, grad: Tensor, needs: tuple[bool, bool, bool, bool]) -> Gradients:
    """First-order gradients, positions and samples computed again."""
    parameter, weight, mask, *rest = _arguments(call)
    images, grad = _rows(call.input), _stored(grad)
    grad = grad if _reads_rows(grad) else grad.contiguous()
    dtype = call.input.dtype
    grad_images = torch.zeros_like(images) if needs[0] else None
    grad_parameter = parameter.new_empty(parameter.shape) if needs[1] else None
    grad_weight = weight.new_empty(weight.shape) if needs[2] else None
    grad_mask = mask.new_empty(mask.shape) if needs[3] and mask is not None else None
    torch.ops.metricconv_mm_cpu.backward(
        grad, images, parameter, weight, mask, *rest, _reads_rows(grad), grad_images, grad_parameter, grad_weight, grad_mask
    )
    del images
    return Gradients(
        None if grad_images is None else _as_input(grad_images, call),
        None if grad_parameter is None else grad_parameter.to(call.parameter.dtype),
        None if grad_weight is None else grad_weight.to(dtype),
        None if grad_mask is None else grad_mask.to(dtype),
    )


def _as_input(rows: Tensor, call: Call) -> Tensor:
    """``[N, H, W, C]`` in the shape, memory format and dtype of the call's input."""
    if call.memory_format() == torch.contiguous_format:
        return _exchanged(rows.flatten(1, 2)).view(call.input.shape).to(call.input.dtype)
    return rows.permute(0, 3, 1, 2).to(call.input.dtype)

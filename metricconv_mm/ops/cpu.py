"""The CPU backend: sampling in C++ (csrc/), contraction by torch's matrix multiplication, one cache-sized part of the output at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .call import Call
from .reference import Gradients, accumulation_dtype

#: samples times channels of a part: its columns stay in the second-level cache
CACHED_SAMPLES = 1 << 20
KINDS = {'metric_conv2d': 0, 'shifted_conv2d': 1, 'deform_conv2d': 2}


@cache
def missing() -> str | None:
    """Why the extension cannot run here; loads it the first time."""
    found = sorted(Path(__file__).parent.parent.glob('_C*.so'))
    if not found:
        return 'its extension is not built: install a C++20 compiler and run pip install --no-build-isolation -e .'
    try:
        torch.ops.load_library(found[0])
    except OSError as error:
        return f'its extension does not load with torch {torch.__version__} ({error.__cause__ or error}): build it again'
    return None


def refusal(call: Call) -> str | None:
    """Why the backend cannot run ``call``."""
    return None if call.input.device.type == 'cpu' else f'input is on {call.input.device}'


class _Prepared:
    """A call with its tensors as the C++ code reads them, and the output cut into parts."""

    def __init__(self, call: Call) -> None:
        dtype = accumulation_dtype(call.input.dtype)
        self.images = call.input.to(dtype).permute(0, 2, 3, 1).contiguous()
        self.parameter = call.parameter.to(dtype).contiguous()
        self.mask = None if call.mask is None else call.mask.to(dtype).contiguous()
        grid = call.tap_grid().grid(self.images) if call.reference is None else call.reference
        reference = grid.to(dtype).contiguous()
        sizes = [*call.output_size, *call.kernel_size, *call.stride, *call.padding, *call.dilation, call.parameter_groups, KINDS[call.operator]]
        self.arguments: tuple[Any, ...] = (self.images, self.parameter, self.mask, reference, call.eps, sizes)
        self.taps, self.channels, self.groups = call.taps, call.input.shape[1], call.groups
        self.pixels = call.input.shape[0] * call.output_size[0] * call.output_size[1]
        # [groups, K * C / groups, C_out / groups], taps before channels as in the columns
        weight = call.weight.to(dtype).flatten(2).unflatten(0, (self.groups, -1))
        self.weight = weight.permute(0, 3, 2, 1).flatten(1, 2)

        self.step = max(1, min(self.pixels, CACHED_SAMPLES // (self.taps * self.channels)))
        self.buffer = self.images.new_empty(self.step, self.taps, self.channels)

    def parts(self) -> Iterator[tuple[int, int]]:
        for begin in range(0, self.pixels, self.step):
            yield begin, min(self.pixels, begin + self.step)

    def columns(self, begin: int, end: int) -> Tensor:
        """[groups, pixels, K * C / groups] of a part, masked; valid until the next call."""
        out = self.buffer[: end - begin]
        torch.ops.metricconv_mm_cpu.columns(*self.arguments, begin, end, out)
        return self.to_groups(out)

    def to_groups(self, columns: Tensor) -> Tensor:
        return columns.unflatten(2, (self.groups, -1)).permute(2, 0, 1, 3).flatten(2)

    def from_groups(self, columns: Tensor) -> Tensor:
        return columns.unflatten(2, (self.taps, -1)).permute(1, 2, 0, 3).flatten(2).contiguous()

    def outputs(self, image: Tensor) -> Tensor:
        """[N, C_out, Ho, Wo] as [groups, N * Ho * Wo, C_out / groups]."""
        return image.to(self.images.dtype).permute(0, 2, 3, 1).flatten(0, 2).unflatten(1, (self.groups, -1)).transpose(0, 1)


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """out[g] = a[g] @ b[g]; a plain product where there is one group, which BLAS does faster than a batch of one."""
    if a.shape[0] > 1:
        return torch.bmm(a, b, out=out)
    torch.mm(a[0], b[0], out=out[0])
    return out


def forward(call: Call) -> Tensor:
    """The operator."""
    prepared = _Prepared(call)
    n, c_out, height, width = call.output_shape
    out = prepared.images.new_empty(call.groups, prepared.pixels, c_out // call.groups)
    for begin, end in prepared.parts():
        _multiply(prepared.columns(begin, end), prepared.weight, out[:, begin:end])
    result = out.transpose(0, 1).reshape(n, height, width, c_out)
    if call.bias is not None:
        result += call.bias.to(result.dtype)
    return result.permute(0, 3, 1, 2).to(call.input.dtype).contiguous(memory_format=call.memory_format())


def backward(call: Call, grad: Tensor, needs: tuple[bool, bool, bool, bool]) -> Gradients:
    """First-order gradients, the columns computed again."""
    need_input, need_parameter, need_weight, need_mask = needs
    prepared = _Prepared(call)
    grad_out, transposed = prepared.outputs(grad), prepared.weight.transpose(1, 2)
    grad_images = torch.zeros_like(prepared.images) if need_input else None
    grad_parameter = torch.empty_like(prepared.parameter) if need_parameter else None
    grad_mask = torch.empty_like(prepared.mask) if need_mask and prepared.mask is not None else None
    grad_weight = torch.zeros_like(prepared.weight) if need_weight else None
    buffer = prepared.weight.new_empty(call.groups, prepared.step, prepared.weight.shape[1])
    for begin, end in prepared.parts():
        part = grad_out[:, begin:end]
        if grad_weight is not None:
            columns = prepared.columns(begin, end).transpose(1, 2)
            _ = grad_weight.baddbmm_(columns, part) if call.groups > 1 else grad_weight[0].addmm_(columns[0], part[0])
        if need_input or need_parameter or need_mask:
            columns = prepared.from_groups(_multiply(part, transposed, buffer[:, : end - begin]))
            torch.ops.metricconv_mm_cpu.backward(*prepared.arguments, begin, end, columns, grad_images, grad_parameter, grad_mask)
    dtype = call.input.dtype
    if grad_images is not None:
        grad_images = grad_images.permute(0, 3, 1, 2).to(dtype).contiguous(memory_format=call.memory_format())
    if grad_weight is not None:
        grad_weight = grad_weight.unflatten(1, (call.taps, -1)).permute(0, 3, 2, 1).reshape(call.weight.shape).to(dtype)
    return Gradients(
        grad_images,
        None if grad_parameter is None else grad_parameter.to(call.parameter.dtype),
        grad_weight,
        None if grad_mask is None else grad_mask.to(dtype),
    )

"""What surrounds the kernels: memory layouts, buffers, grids. Nothing here waits for the device."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, cached_property
from math import gcd
from typing import Any

import torch
import triton
from torch import Tensor

from ..call import Call
from ..reference import Gradients
from ..transforms import KINDS
from . import backward_kernels, forward_kernels, tiles, weight_kernels
from .tiles import Tile

#: elements that 32 bits count, with room for the rows beyond the last pixel of a program
COUNTABLE = 2**31 - 2**24
#: fixed-point sums stay below 2 ** BITS; what is larger stands for NaN
BITS = 60


def _last(image: Tensor) -> Tensor:
    """[N, C, H, W] as [N, H, W, C] in memory; a copy unless it is channels_last."""
    return image.permute(0, 2, 3, 1).contiguous()


def _first(image: Tensor, call: Call) -> Tensor:
    """[N, H, W, C] as [N, C, H, W] in the memory format of the call."""
    return image.permute(0, 3, 1, 2).contiguous(memory_format=call.memory_format())


class _Problem:
    """A call as the kernels read it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.channels, self.outputs = call.input.shape[1], call.weight.shape[0] // call.groups
        rows, columns = call.output_size
        self.plane = rows * columns
        self.pixels = call.input.shape[0] * self.plane
        #: without a sum over channels, tensor cores have nothing to do
        self.depthwise = call.weight.shape[1] == 1 and (call.groups > 1 or self.outputs <= 4)
        parameter_channels = self.channels // call.parameter_groups
        #: channels that share a group of the weight and one of the parameter
        self.cell = parameter_channels if self.depthwise else gcd(call.weight.shape[1], parameter_channels)
        self.image = _last(call.input)
        self.parameter = call.parameter.contiguous()
        self.mask = None if call.mask is None else call.mask.contiguous()
        self.table = None if call.reference is None else call.reference.to(torch.float32).contiguous()

    @cached_property
    def weight(self) -> Tensor:
        """[groups, taps, C / groups, C_out / groups], or [taps, C_out / groups, C] if depthwise."""
        grouped = self.call.weight.flatten(2).unflatten(0, (self.call.groups, self.outputs))
        return (grouped.squeeze(2).permute(2, 1, 0) if self.depthwise else grouped.permute(0, 3, 2, 1)).contiguous()

    def weight_from(self, arranged: Tensor) -> Tensor:
        """The inverse of :attr:`weight`."""
        grouped = arranged.permute(2, 1, 0).unsqueeze(2) if self.depthwise else arranged.permute(0, 3, 2, 1)
        return grouped.reshape(self.call.weight.shape).to(self.call.weight.dtype)

    def tile(self, dense: Callable[..., Tile], depthwise: Callable[..., Tile] = tiles.depthwise) -> Tile:
        choose = depthwise if self.depthwise else dense
        return choose(self.image.dtype, self.cell, self.outputs, self.pixels, self.image.device)

    def blocks(self, tile: Tile) -> int:
        """Blocks of channels in all."""
        return self.channels // self.cell * triton.cdiv(self.cell, tile.channels)

    def arguments(self, *written: Tensor | None) -> dict[str, Any]:
        """What every kernel takes; ``written`` are the tensors beside those of the call."""
        call, (height, width) = self.call, self.call.input.shape[2:]
        tensors = (self.image, self.parameter, self.mask, call.weight, *written)
        numel = max(tensor.numel() for tensor in tensors if tensor is not None)
        return {
            'image': self.image, 'parameter': self.parameter, 'mask': self.mask, 'table': self.table, 'eps': call.eps,
            'pixels': self.pixels, 'plane': self.plane, 'out_width': call.output_size[1], 'height': height, 'width': width,
            'channels': self.channels, 'outputs': self.outputs, 'cell': self.cell,
            'groups': call.groups, 'parameter_groups': call.parameter_groups,
            'kernel_rows': call.kernel_size[0], 'kernel_columns': call.kernel_size[1],
            'stride_y': call.stride[0], 'stride_x': call.stride[1], 'padding_y': call.padding[0], 'padding_x': call.padding[1],
            'dilation_y': call.dilation[0], 'dilation_x': call.dilation[1],
            'KIND': KINDS[call.operator], 'LARGE': max(numel, self.pixels * self.channels) > COUNTABLE,
        }  # fmt: skip

    def launch(self, kernel: Any, tile: Tile, programs: Callable[[int], int], arguments: dict[str, Any], zeroed: Iterable[str] = ()) -> None:
        """Run ``programs(pixels of one)`` programs of a kernel. ``zeroed``: the arguments that it adds to."""
        meta = {name: value for name, value in {**tile.blocks, **tile.options}.items() if name in kernel.arg_names or name in tile.options}
        if os.environ.get('METRICCONV_AUTOTUNE') == '1':
            kernel = _tuned(kernel, tile, tuple(zeroed), self.pixels.bit_length())
            meta = {name: value for name, value in meta.items() if name not in tiles.TUNED}
        with self.device():
            kernel[lambda chosen: (programs(chosen['BLOCK_P']),)](**arguments, **meta)

    def device(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self.image.device) if self.image.is_cuda else nullcontext()


@cache
def _tuned(kernel: Any, tile: Tile, zeroed: tuple[str, ...], size: int) -> Any:
    configs = [triton.Config({'BLOCK_P': p}, num_warps=warps, num_stages=stages) for p, warps, stages in tiles.candidates(tile)]
    key = ['channels', 'outputs', 'cell', 'groups', 'parameter_groups', 'kernel_rows', 'kernel_columns', 'KIND', 'PRECISION', 'FIXED_POINT']
    return triton.autotune(configs, [name for name in key if name in kernel.arg_names], reset_to_zero=list(zeroed) or None)(kernel)


def _precision(dtype: torch.dtype) -> str:
    """How torch itself would multiply in a convolution: its TF32 settings, old and new."""
    setting = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return 'tf32' if dtype == torch.float32 and setting == 'tf32' else 'ieee'


def forward(call: Call) -> Tensor:
    """The operator."""
    problem = _Problem(call)
    n, c_out, height, width = call.output_shape
    out = problem.image.new_empty(n, height, width, c_out)
    if problem.pixels:
        tile = problem.tile(tiles.forward)
        arguments = {
            **problem.arguments(out),
            'weight': problem.weight,
            'bias': call.bias if call.bias is None else call.bias.contiguous(),
            'out': out,
        }
        if problem.depthwise:
            per_pixel, kernel = problem.outputs * problem.blocks(tile), forward_kernels.depthwise_forward
        else:
            per_pixel, kernel = call.groups * triton.cdiv(problem.outputs, tile.outputs), forward_kernels.dense_forward
            arguments |= {'PRECISION': _precision(out.dtype), 'ONE_BLOCK': problem.cell <= tile.channels}
        problem.launch(kernel, tile, lambda block: per_pixel * triton.cdiv(problem.pixels, block), arguments)
    return _first(out, call)


def backward(call: Call, grad: Tensor, needs: tuple[bool, bool, bool, bool]) -> Gradients:
    """First-order gradients, the columns computed again.

    The input's is summed by atomic additions in float32, or in 64-bit fixed point under torch.use_deterministic_algorithms; the others in a
    fixed order always.
    """
    problem = _Problem(call)
    incoming = _last(grad.to(call.input.dtype))
    need_mask = needs[3] and call.mask is not None
    grad_input = grad_parameter = grad_mask = None
    if needs[0] or needs[1] or need_mask:
        grad_input, grad_parameter, grad_mask = _of_samples(problem, incoming, needs[0], needs[1], need_mask)
    return Gradients(grad_input, grad_parameter, _of_weight(problem, incoming) if needs[2] else None, grad_mask)


def _of_samples(problem: _Problem, grad: Tensor, need_input: bool, need_parameter: bool, need_mask: bool) -> tuple[Tensor | None, ...]:
    call, device = problem.call, problem.image.device
    tile = problem.tile(tiles.samples, tiles.depthwise_samples)
    blocks = triton.cdiv(problem.pixels, tile.pixels) * call.parameter_groups
    splits = tiles.splits(blocks, triton.cdiv(call.taps, tile.taps), device)
    fixed_point = need_input and torch.are_deterministic_algorithms_enabled()
    image = torch.zeros_like(problem.image, dtype=torch.int64 if fixed_point else torch.float32) if need_input else None
    scale = _fixed_point_scale(problem, grad) if fixed_point and problem.pixels else None
    shared = call.operator != 'deform_conv2d'  # parameters that all taps share: a sum over the parts of the taps
    parts, dtype = (splits, torch.float32) if shared and splits > 1 else (1, call.parameter.dtype)
    parameter = problem.parameter.new_empty(parts, *call.parameter.shape, dtype=dtype) if need_parameter else None
    mask = torch.empty_like(problem.mask) if need_mask and problem.mask is not None else None
    if problem.pixels:
        arguments = {
            **problem.arguments(grad, parameter), 'weight': problem.weight, 'grad': grad, 'scale': scale, 'splits': splits,
            'grad_image': image, 'grad_parameter': parameter, 'grad_mask': mask,
            'DEPTHWISE': problem.depthwise, 'PRECISION': _precision(grad.dtype), 'FIXED_POINT': fixed_point,
            'KEEP_GRAD': not problem.depthwise and call.groups == 1 and problem.outputs <= tile.outputs,
        }  # fmt: skip
        per_block = call.parameter_groups * splits
        count = lambda block: per_block * triton.cdiv(problem.pixels, block)  # noqa: E731
        problem.launch(backward_kernels.backward_of_samples, tile, count, arguments, ('grad_image',))
    if image is not None and scale is not None:
        image = torch.where(image > 2 ** (BITS + 1), torch.nan, image.to(torch.float32) / scale.view(-1, 1, 1, 1))
    return (
        None if image is None else _first(image.to(call.input.dtype), call),
        None if parameter is None else (parameter[0] if parts == 1 else parameter.sum(0).to(call.parameter.dtype)),
        mask,
    )


def _fixed_point_scale(problem: _Problem, grad: Tensor) -> Tensor:
    """The power of two for every image that keeps all sums of its gradient below 2 ** BITS, were all its samples to fall on one pixel."""

    def largest(tensor: Tensor) -> Tensor:
        return tensor.nan_to_num(0.0, 0.0, 0.0).abs().flatten(1).amax(1).double()

    weight = problem.call.weight.double().nan_to_num(0.0, 0.0, 0.0).abs().unflatten(0, (problem.call.groups, problem.outputs)).sum(1).amax()
    bound = weight * largest(grad) * (problem.plane * problem.call.taps)
    if problem.mask is not None:
        bound = bound * largest(problem.mask)
    return torch.exp2((BITS - bound.log2()).floor().clamp(-126, 126)).to(torch.float32)


def _of_weight(problem: _Problem, grad: Tensor) -> Tensor:
    call = problem.call
    if not problem.pixels:
        return torch.zeros_like(call.weight, memory_format=torch.contiguous_format)
    tile = problem.tile(tiles.weight)
    if problem.depthwise:
        kernel, programs = weight_kernels.depthwise_backward_of_weight, problem.blocks(tile) * call.taps * problem.outputs
    else:
        programs = problem.blocks(tile) * triton.cdiv(call.taps, tile.taps) * triton.cdiv(problem.outputs, tile.outputs)
        kernel = weight_kernels.dense_backward_of_weight
    splits = tiles.splits(programs, triton.cdiv(problem.pixels, tile.pixels), grad.device)
    partial = problem.weight.new_empty(splits, *problem.weight.shape, dtype=torch.float32)
    arguments = {**problem.arguments(grad, partial), 'grad': grad, 'partial': partial, 'splits': splits}
    if not problem.depthwise:
        arguments['PRECISION'] = _precision(grad.dtype)
    problem.launch(kernel, tile, lambda block: programs * splits, arguments)
    return problem.weight_from(partial.sum(0) if splits > 1 else partial[0])

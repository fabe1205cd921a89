"""One call of an operator: its tensors and geometry, and the checks that eager and fake kernels share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..geometry.supports import Size2
from .transforms import TRANSFORMS, Taps, Transform


@dataclass(frozen=True)
class Call:
    """out = sum_k weight[k] * mask[k] * bilinear(input, centre + samples(parameter)[k]) + bias.

    The centre of output pixel o is where nn.Conv2d centres its window: o * stride - padding + dilation * (kernel_size - 1) / 2.
    """

    operator: str
    input: Tensor
    parameter: Tensor
    weight: Tensor
    bias: Tensor | None
    mask: Tensor | None
    reference: Tensor | None
    eps: float
    stride: Size2
    padding: Size2
    dilation: Size2
    groups: int

    @property
    def transform(self) -> Transform:
        return TRANSFORMS[self.operator]

    @property
    def kernel_size(self) -> Size2:
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def taps(self) -> int:
        return self.weight.shape[2] * self.weight.shape[3]

    @property
    def parameter_groups(self) -> int:
        return self.parameter.shape[1] // self.transform.channels(self.taps)

    @cached_property
    def output_size(self) -> Size2:
        return output_size(self.input.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.input.shape[0], self.weight.shape[0], *self.output_size)

    def tap_grid(self) -> Taps:
        return Taps(self.kernel_size, self.dilation, self.reference, self.eps)

    def memory_format(self) -> torch.memory_format:
        """channels_last if the input is, and cannot be read as NCHW as well."""
        last = self.input.is_contiguous(memory_format=torch.channels_last) and not self.input.is_contiguous()
        return torch.channels_last if last else torch.contiguous_format

    def check(self) -> Call:
        """Raise ValueError or TypeError, naming what was expected and what came; return the call itself."""
        self._check_geometry()
        self._check_parameter()
        self._check_types()
        return self

    def check_grad(self, grad: Tensor) -> None:
        """Raise ValueError or TypeError for what cannot be the gradient of the output."""
        if tuple(grad.shape) != self.output_shape:
            raise ValueError(f'{self.operator}: expected grad {list(self.output_shape)}, the shape of the output, got {grad.shape=}')
        if grad.dtype != self.input.dtype:
            raise TypeError(f'{self.operator}: expected grad of dtype {self.input.dtype}, that of input, got {grad.dtype=}')
        if grad.device != self.input.device:
            raise ValueError(f'{self.operator}: expected grad on {self.input.device}, the device of input, got {grad.device=}')

    def _check_geometry(self) -> None:
        input, weight, groups = self.input, self.weight, self.groups
        if input.dim() != 4:
            raise ValueError(f'{self.operator}: expected input [N, C, H, W], got {input.shape=}')
        if weight.dim() != 4 or min(weight.shape) < 1:
            raise ValueError(f'{self.operator}: expected weight [C_out, C_in / groups, rows, columns], got {weight.shape=}: each is at least 1')
        for name, least, value in (('stride', 1, self.stride), ('padding', 0, self.padding), ('dilation', 1, self.dilation)):
            if len(value) != 2 or min(value) < least:
                raise ValueError(f'{self.operator}: expected {name} of two integers >= {least}, got {name}={tuple(value)}')
        if groups < 1 or weight.shape[0] % groups or input.shape[1] != weight.shape[1] * groups:
            raise ValueError(
                f'{self.operator}: expected weight [C_out, C_in / groups, ...] with C_in={input.shape[1]}, the channels of input, '
                f'and C_out divisible by groups, got {weight.shape=}, {groups=}'
            )
        if min(self.output_size) < 1 or min(input.shape[2:]) < 1:
            raise ValueError(
                f'{self.operator}: no window fits: {input.shape=} with kernel {self.kernel_size}, stride {self.stride}, padding {self.padding}, '
                f'dilation {self.dilation} gives an output of {self.output_size}. Use a larger input or more padding'
            )
        if self.bias is not None and self.bias.shape != (weight.shape[0],):
            raise ValueError(f'{self.operator}: expected bias [{weight.shape[0]}], got {self.bias.shape=}')

    def _check_parameter(self) -> None:
        name, channels = self.transform.parameter, self.transform.channels(self.taps)
        shape, size = tuple(self.parameter.shape), self.output_size
        expected = f'{name} [{self.input.shape[0]}, {channels} x groups, {size[0]}, {size[1]}]'
        if (
            len(shape) != 4
            or shape[0] != self.input.shape[0]
            or shape[2:] != tuple(size)
            or shape[1] == 0
            or shape[1] % channels
            or self.input.shape[1] % (shape[1] // channels)
        ):
            raise ValueError(
                f'{self.operator}: expected {expected}: channels ({self.transform.layout}) for every group of the {self.input.shape[1]} input '
                f'channels, at the size of the output; got {name}.shape={shape}'
            )
        if self.mask is not None:
            wanted = (shape[0], self.parameter_groups * self.taps, *size)
            if tuple(self.mask.shape) != wanted:
                raise ValueError(f'{self.operator}: expected mask {list(wanted)}, one channel a tap and {name} group, got {self.mask.shape=}')
        if self.reference is not None and tuple(self.reference.shape) != (self.taps, 3):
            raise ValueError(
                f'{self.operator}: expected a reference support [{self.taps}, 3] of (cos, sin, radius) for a kernel of {self.kernel_size}, '
                f'got {self.reference.shape=}'
            )

    def _check_types(self) -> None:
        input, name = self.input, self.transform.parameter
        if not input.is_floating_point():
            raise TypeError(f'{self.operator}: expected a floating point input, got {input.dtype=}')
        others = {'weight': self.weight, 'bias': self.bias, 'mask': self.mask}
        for other, tensor in others.items():
            if tensor is not None and tensor.dtype != input.dtype:
                raise TypeError(f'{self.operator}: expected {other} of dtype {input.dtype}, that of input, got {other}.dtype={tensor.dtype}')
        if self.parameter.dtype not in (input.dtype, torch.float32):
            raise TypeError(
                f'{self.operator}: expected {name} of dtype {input.dtype}, that of input, or torch.float32, got {name}.dtype={self.parameter.dtype}'
            )
        for other, tensor in {**others, name: self.parameter, 'reference': self.reference}.items():
            if tensor is not None and tensor.device != input.device:
                raise ValueError(f'{self.operator}: expected {other} on {input.device}, the device of input, got {other}.device={tensor.device}')


def output_size(size: Sequence[int], kernel_size: Size2, stride: Size2, padding: Size2, dilation: Size2) -> Size2:
    """(rows, columns) of what nn.Conv2d makes of ``size``."""
    rows, columns = (
        (n + 2 * around - apart * (kernel - 1) - 1) // step + 1
        for n, kernel, step, around, apart in zip(size, kernel_size, stride, padding, dilation, strict=True)
    )
    return rows, columns


def pair_of(value: Sequence[int]) -> Size2:
    """The two integers of a stride, padding or dilation as the dispatcher hands them over."""
    return tuple(value)  # type: ignore[return-value]

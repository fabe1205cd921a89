"""The operators in plain PyTorch: the definition that every other backend is held against.

Images are rows of channels, ``[N * G * H * W, C / G]``, so that a bilinear sample is a weighted sum of four rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .call import Call

#: samples times channels that are worked on at a time
CACHED_SAMPLES = 1 << 20


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Sides(NamedTuple):
    """The two pixels on either side of every sample along one axis, ``[N, G, P, K]`` each: (before, after)."""

    pixel: tuple[Tensor, Tensor]
    """clamped into the image"""
    weight: tuple[Tensor, Tensor]
    """linear weight; 0 outside the image"""
    slope: tuple[Tensor, Tensor]
    """derivative of the weight by the position: -1 or 1; 0 outside the image"""
    outside: tuple[Tensor, Tensor]


def _sides(position: Tensor, size: int) -> Sides:
    # clamped to where both sides are outside, so that no index overflows; NaN becomes pixel 0 with a weight of NaN
    position = position.clamp(-2, size + 1)
    before = position.detach().floor()
    fraction = position - before
    pixels, weight, slope, beyond = [], [], [], []
    for pixel, share, sign in ((before, 1 - fraction, -1.0), (before + 1, fraction, 1.0)):
        outside = (pixel < 0) | (pixel > size - 1)
        beyond.append(outside)
        pixels.append(pixel.clamp(0, size - 1).nan_to_num(0.0).long())
        weight.append(share.masked_fill(outside, 0.0))
        slope.append(torch.full_like(pixel, sign).masked_fill(outside, 0.0))
    return Sides((pixels[0], pixels[1]), (weight[0], weight[1]), (slope[0], slope[1]), (beyond[0], beyond[1]))


@dataclass(frozen=True)
class Corners:
    """The four neighbours of every sample, ``[N, G, P, K]`` each."""

    rows: Sides
    columns: Sides
    offset: Tensor
    """row of the image's first pixel, ``[N, G, 1, 1]``"""
    width: int
    blank: int
    """the row of zeros that stands for pixels outside: a weight of 0 would not silence NaN there"""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """(row of the neighbour, its bilinear weight, the weight's derivatives by x and by y), corner by corner."""
        for r in (0, 1):
            for c in (0, 1):
                index = self.rows.pixel[r] * self.width + self.columns.pixel[c] + self.offset
                index = index.masked_fill(self.rows.outside[r] | self.columns.outside[c], self.blank)
                weight = self.rows.weight[r] * self.columns.weight[c]
                yield index, weight, self.rows.weight[r] * self.columns.slope[c], self.rows.slope[r] * self.columns.weight[c]


def samples(call: Call) -> Tensor:
    """``Tensor[N, G, K, 2, Ho, Wo]``: (x, y) displacements from the centre of every window, in float32 or better."""
    groups = call.parameter_groups
    parameter = call.parameter.to(accumulation_dtype(call.parameter.dtype))
    return call.transform.samples(parameter.unflatten(1, (groups, parameter.shape[1] // groups)), call.tap_grid())


def _corners(call: Call, displacement: Tensor) -> Corners:
    n, groups = displacement.shape[:2]
    height, width = call.input.shape[2:]
    axes = []
    for axis, count in enumerate(call.output_size):
        first = call.dilation[axis] * (call.kernel_size[axis] - 1) / 2 - call.padding[axis]
        axes.append(torch.arange(count, dtype=displacement.dtype, device=displacement.device) * call.stride[axis] + first)
    x = (displacement[:, :, :, 0] + axes[1]).flatten(3).transpose(2, 3)
    y = (displacement[:, :, :, 1] + axes[0][:, None]).flatten(3).transpose(2, 3)
    images = torch.arange(n * groups, device=x.device).view(n, groups, 1, 1) * (height * width)
    return Corners(_sides(y, height), _sides(x, width), images, width, n * groups * height * width)


def _rows(image: Tensor, groups: int) -> Tensor:
    """[N, C, H, W] -> [N * G * H * W + 1, C / G], the last row zero."""
    n, channels, height, width = image.shape
    grouped = image.reshape(n, groups, channels // groups, height * width).transpose(2, 3)
    return nn.functional.pad(grouped.reshape(n * groups * height * width, channels // groups), (0, 0, 0, 1))


def _to_columns(columns: Tensor, groups: int) -> Tensor:
    """[N, G, P, K, C / G] -> [N, P, K, groups, C / groups], from the parameter's groups to the weight's."""
    n, parameter_groups, pixels, taps, channels = columns.shape
    return columns.permute(0, 2, 3, 1, 4).reshape(n, pixels, taps, groups, parameter_groups * channels // groups)


def _from_columns(columns: Tensor, parameter_groups: int) -> Tensor:
    n, pixels, taps, groups, channels = columns.shape
    return columns.reshape(n, pixels, taps, parameter_groups, groups * channels // parameter_groups).permute(0, 3, 1, 2, 4)


def _mask(call: Call, dtype: torch.dtype) -> Tensor | None:
    """The mask as [N, G, P, K]."""
    if call.mask is None:
        return None
    return call.mask.to(dtype).flatten(2).unflatten(1, (call.parameter_groups, call.taps)).transpose(2, 3)


def _kernel(call: Call, dtype: torch.dtype) -> Tensor:
    """The weight as [groups, C_out / groups, K, C / groups]."""
    return call.weight.to(dtype).flatten(2).unflatten(0, (call.groups, call.weight.shape[0] // call.groups)).transpose(2, 3)


def _neighbours(rows: Tensor, index: Tensor) -> Tensor:
    return rows.index_select(0, index.flatten()).view(*index.shape, rows.shape[1])


def _bilinear(rows: Tensor, corners: Corners, differentiable: bool) -> Tensor:
    """The samples ``[N, G, P, K, C / G]``: weighted sums of four rows."""
    corner = [(index, weight.to(rows.dtype)) for index, weight, _, _ in corners]
    if differentiable:
        return sum(_neighbours(rows, index) * weight.unsqueeze(-1) for index, weight in corner)  # type: ignore[return-value]
    # in one pass, but differentiable only once
    index, weight = (torch.stack(part, -1) for part in zip(*corner, strict=True))
    columns = nn.functional.embedding_bag(index.view(-1, 4), rows, mode='sum', per_sample_weights=weight.view(-1, 4))
    return columns.view(*index.shape[:-1], rows.shape[1])


def _parts(call: Call, *more: Tensor) -> Iterator[tuple[Call, tuple[Tensor, ...]]]:
    """The call, and tensors beside it, cut along the batch so that the samples of a part stay in cache."""
    per_image = call.input.shape[1] * call.taps * call.output_size[0] * call.output_size[1]
    images = max(1, CACHED_SAMPLES // max(1, per_image))
    for first in range(0, max(1, call.input.shape[0]), images):
        batch = slice(first, first + images)
        mask = None if call.mask is None else call.mask[batch]
        yield replace(call, input=call.input[batch], parameter=call.parameter[batch], mask=mask), tuple(t[batch] for t in more)


def forward(call: Call, differentiable: bool = False) -> Tensor:
    """The operator itself; if ``differentiable``, any number of times by autograd."""
    out = torch.cat([_forward(part, differentiable) for part, _ in _parts(call)])
    return out.contiguous(memory_format=call.memory_format())


def _forward(call: Call, differentiable: bool) -> Tensor:
    dtype = accumulation_dtype(call.input.dtype)
    rows = _rows(call.input.to(dtype), call.parameter_groups)
    columns = _bilinear(rows, _corners(call, samples(call)), differentiable)
    mask = _mask(call, dtype)
    if mask is not None:
        columns = columns * mask.unsqueeze(-1)
    out = torch.einsum('npkgc,gokc->ngop', _to_columns(columns, call.groups), _kernel(call, dtype))
    out = out.reshape(call.output_shape)
    if call.bias is not None:
        out = out + call.bias.to(dtype).view(1, -1, 1, 1)
    return out.to(call.input.dtype)


class Gradients(NamedTuple):
    """Gradients of input, parameter, weight and mask; None where none was asked for."""

    input: Tensor | None
    parameter: Tensor | None
    weight: Tensor | None
    mask: Tensor | None


def backward(call: Call, grad: Tensor, needs: tuple[bool, bool, bool, bool]) -> Gradients:
    """First-order gradients, recomputing positions and samples so that nothing of size K x pixels is kept from the forward pass.

    ``needs`` says which of (input, parameter, weight, mask) are wanted.
    """
    parts = [_backward(part, part_grad, needs) for part, (part_grad,) in _parts(call, grad)]
    input, parameter, weight, mask = zip(*parts, strict=True)
    return Gradients(
        torch.cat(input).contiguous(memory_format=call.memory_format()) if needs[0] else None,
        torch.cat(parameter) if needs[1] else None,
        torch.stack(weight).sum(0).to(call.input.dtype) if needs[2] else None,
        torch.cat(mask) if needs[3] else None,
    )


def _backward(call: Call, grad: Tensor, needs: tuple[bool, bool, bool, bool]) -> Gradients:
    need_input, need_parameter, need_weight, need_mask = needs
    dtype, groups = accumulation_dtype(call.input.dtype), call.parameter_groups
    rows, mask = _rows(call.input.to(dtype), groups), _mask(call, dtype)
    displacement = samples(call)
    grad = grad.to(dtype).reshape(grad.shape[0], call.groups, call.weight.shape[0] // call.groups, grad.shape[2] * grad.shape[3])
    grad_columns = _from_columns(torch.einsum('ngop,gokc->npkgc', grad, _kernel(call, dtype)), groups)
    # of the samples before the mask
    grad_samples = grad_columns if mask is None else grad_columns * mask.unsqueeze(-1)
    corners, grad_rows = _corners(call, displacement), torch.zeros_like(rows)
    grad_x = grad_y = torch.zeros((), dtype=dtype, device=rows.device)
    for index, weight, by_x, by_y in corners:
        if need_parameter:
            dot = (_neighbours(rows, index) * grad_samples).sum(-1)
            grad_x, grad_y = grad_x + dot * by_x, grad_y + dot * by_y
        if need_input:
            grad_rows.index_add_(0, index.flatten(), (grad_samples * weight.to(dtype).unsqueeze(-1)).flatten(0, -2))

    grad_input = grad_parameter = grad_weight = grad_mask = None
    if need_input:
        n, _, height, width = call.input.shape
        grad_input = grad_rows[:-1].view(n, groups, height * width, rows.shape[1]).transpose(2, 3).reshape(call.input.shape).to(call.input.dtype)
    if need_parameter:
        per_tap = torch.stack([grad_x, grad_y], 2).movedim(4, 2).reshape(displacement.shape).to(displacement.dtype)
        parameter = call.parameter.to(displacement.dtype).unflatten(1, (groups, call.parameter.shape[1] // groups))
        grad_parameter = call.transform.vjp(parameter, call.tap_grid(), per_tap).flatten(1, 2).to(call.parameter.dtype)
    columns = _bilinear(rows, corners, differentiable=False) if need_weight or need_mask else rows
    if need_mask and call.mask is not None:
        grad_mask = (columns * grad_columns).sum(-1).transpose(2, 3).reshape(call.mask.shape).to(call.input.dtype)
    if need_weight:
        masked = columns if mask is None else columns * mask.unsqueeze(-1)
        grad_weight = torch.einsum('npkgc,ngop->gokc', _to_columns(masked, call.groups), grad).transpose(2, 3).reshape(call.weight.shape)
    return Gradients(grad_input, grad_parameter, grad_weight, grad_mask)

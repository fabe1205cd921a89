"""The operators in plain PyTorch: the definition that every other backend is held against.

Images are rows of channels, ``[N * G * H * W, C / G]``, so that a bilinear sample is a weighted sum of four rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .call import Call

#: samples times channels that are worked on at a time
CACHED_SAMPLES = 1 << 20


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Corners(NamedTuple):
    """The four neighbours of every sample, leading dimension 4: (top left, top right, bottom left, bottom right)."""

    index: Tensor
    """row of the neighbour, ``[4, N, G, P, K]``"""
    inside: Tensor
    """whether the neighbour is a pixel of the image; others count as 0"""
    x: Tensor
    """fraction of the way to the right neighbour, ``[N, G, P, K]``"""
    y: Tensor
    """fraction of the way to the lower neighbour"""

    def weights(self) -> Tensor:
        left, top = 1 - self.x, 1 - self.y
        bilinear = torch.stack([left * top, self.x * top, left * self.y, self.x * self.y])
        return torch.where(self.inside, bilinear, torch.zeros_like(bilinear))


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
    # clamped to where every neighbour is outside; what is left of NaN goes to pixel 0, with a weight that is NaN
    x = (displacement[:, :, :, 0] + axes[1]).clamp(-2, width + 1).flatten(3).transpose(2, 3)
    y = (displacement[:, :, :, 1] + axes[0][:, None]).clamp(-2, height + 1).flatten(3).transpose(2, 3)
    left, top = x.detach().floor(), y.detach().floor()
    image = torch.arange(n * groups, device=x.device).view(n, groups, 1, 1) * (height * width)
    index, inside = [], []
    for row in (top, top + 1):
        for column in (left, left + 1):
            outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
            pixel = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).nan_to_num(0.0)
            index.append(pixel.long() + image)
            inside.append(~outside)
    return Corners(torch.stack(index), torch.stack(inside), x - left, y - top)


def _rows(image: Tensor, groups: int) -> Tensor:
    """[N, C, H, W] -> [N * G * H * W, C / G]."""
    n, channels, height, width = image.shape
    grouped = image.reshape(n, groups, channels // groups, height * width).transpose(2, 3)
    return grouped.reshape(n * groups * height * width, channels // groups)


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


def _parts(call: Call, *more: Tensor) -> Iterator[tuple[Call, tuple[Tensor, ...]]]:
    """The call, and tensors beside it, cut along the batch so that the samples of a part stay in cache."""
    per_image = call.input.shape[1] * call.taps * call.output_size[0] * call.output_size[1]
    images = max(1, CACHED_SAMPLES // max(1, per_image))
    for first in range(0, max(1, call.input.shape[0]), images):
        batch = slice(first, first + images)
        mask = None if call.mask is None else call.mask[batch]
        yield replace(call, input=call.input[batch], parameter=call.parameter[batch], mask=mask), tuple(t[batch] for t in more)


def forward(call: Call) -> Tensor:
    """The operator itself, differentiable any number of times by autograd."""
    out = torch.cat([_forward(part) for part, _ in _parts(call)])
    return out.contiguous(memory_format=call.memory_format())


def _forward(call: Call) -> Tensor:
    dtype = accumulation_dtype(call.input.dtype)
    rows = _rows(call.input.to(dtype), call.parameter_groups)
    corners = _corners(call, samples(call))
    columns = torch.zeros((), dtype=dtype, device=rows.device)
    for index, weight in zip(corners.index, corners.weights().to(dtype), strict=True):
        columns = torch.addcmul(columns, _neighbours(rows, index), weight.unsqueeze(-1))
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
    rows = _rows(call.input.to(dtype), groups)
    displacement = samples(call)
    corners = _corners(call, displacement)
    weights, mask = corners.weights().to(dtype), _mask(call, dtype)
    grad = grad.to(dtype).reshape(grad.shape[0], call.groups, call.weight.shape[0] // call.groups, grad.shape[2] * grad.shape[3])
    grad_columns = _from_columns(torch.einsum('ngop,gokc->npkgc', grad, _kernel(call, dtype)), groups)
    grad_input = grad_parameter = grad_weight = grad_mask = None

    if need_weight or need_mask or need_parameter:
        columns = torch.zeros_like(grad_columns)
        slopes = []
        for index, weight in zip(corners.index, weights, strict=True):
            neighbour = _neighbours(rows, index)
            columns.addcmul_(neighbour, weight.unsqueeze(-1))
            if need_parameter:
                slopes.append((neighbour * grad_columns).sum(-1))
        if need_mask:
            per_tap = (columns * grad_columns).sum(-1).transpose(2, 3)
            grad_mask = per_tap.flatten(1, 2).reshape(call.mask.shape).to(call.input.dtype)  # type: ignore[union-attr]
        if need_weight:
            masked = columns if mask is None else columns * mask.unsqueeze(-1)
            grad_weight = torch.einsum('npkgc,ngop->gokc', _to_columns(masked, call.groups), grad)
            grad_weight = grad_weight.transpose(2, 3).reshape(call.weight.shape)
        if need_parameter:
            grad_parameter = _position_gradient(call, displacement, corners, slopes, mask)
    if need_input:
        if mask is not None:
            grad_columns = grad_columns * mask.unsqueeze(-1)
        grad_rows = torch.zeros_like(rows)
        for index, weight in zip(corners.index, weights, strict=True):
            grad_rows.index_add_(0, index.flatten(), (grad_columns * weight.unsqueeze(-1)).flatten(0, -2))
        n, _, height, width = call.input.shape
        grad_input = grad_rows.view(n, groups, height * width, rows.shape[1]).transpose(2, 3).reshape(call.input.shape)
        grad_input = grad_input.to(call.input.dtype)
    return Gradients(grad_input, grad_parameter, grad_weight, grad_mask)


def _position_gradient(call: Call, displacement: Tensor, corners: Corners, slopes: list[Tensor], mask: Tensor | None) -> Tensor:
    """From the gradient of the bilinear weights, through the positions, to the parameter."""
    zero = torch.zeros_like(slopes[0])
    top_left, top_right, low_left, low_right = (
        torch.where(inside, slope, zero) for inside, slope in zip(corners.inside, slopes, strict=True)
    )
    x, y = corners.x.to(zero.dtype), corners.y.to(zero.dtype)
    grad_x = (1 - y) * (top_right - top_left) + y * (low_right - low_left)
    grad_y = (1 - x) * (low_left - top_left) + x * (low_right - top_right)
    if mask is not None:
        grad_x, grad_y = grad_x * mask, grad_y * mask
    grad_samples = torch.stack([grad_x, grad_y], 2).transpose(3, 4)
    grad_samples = grad_samples.transpose(2, 3).reshape(displacement.shape).to(displacement.dtype)
    groups = call.parameter_groups
    parameter = call.parameter.to(displacement.dtype).unflatten(1, (groups, call.parameter.shape[1] // groups))
    return call.transform.vjp(parameter, call.tap_grid(), grad_samples).flatten(1, 2).to(call.parameter.dtype)

"""Backward kernels of the weight: columns are sampled again, and their products summed over parts of the pixels in a fixed order."""

import triton
import triton.language as tl

from .forward_kernels import SIZES
from .sampling import blend, factors, index, parameter_values, positions, product, spread, windows


@triton.jit(do_not_specialize=SIZES)
def dense_backward_of_weight(
    image, parameter, mask, table, grad, partial, eps,
    pixels, plane, out_width, height, width, channels, outputs, cell, groups, parameter_groups,
    kernel_rows, kernel_columns, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x, splits,
    KIND: tl.constexpr, LARGE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """BLOCK_K taps x BLOCK_C channels of a cell x BLOCK_O outputs, summed over one of ``splits`` parts of the pixels, a program.

    partial: [splits, groups, taps, C / groups, C_out / groups] in float32.
    """
    taps = kernel_rows * kernel_columns
    half_y, half_x = dilation_y * (kernel_rows - 1) * 0.5, dilation_x * (kernel_columns - 1) * 0.5
    blocks_c, blocks_k, blocks_o = tl.cdiv(cell, BLOCK_C), tl.cdiv(taps, BLOCK_K), tl.cdiv(outputs, BLOCK_O)
    program = tl.program_id(0)
    split = program % splits
    program = program // splits
    output = (program % blocks_o) * BLOCK_O + tl.arange(0, BLOCK_O)[None, :]
    program = program // blocks_o
    tap_begin = (program % blocks_k) * BLOCK_K
    program = program // blocks_k
    column = tl.arange(0, BLOCK_K * BLOCK_C)
    block, begin = (program % blocks_c) * BLOCK_C, (program // blocks_c) * cell
    local = block + column % BLOCK_C
    group_channels = channels // groups
    group, parameter_group = begin // group_channels, begin // (channels // parameter_groups)
    tap = index(tap_begin + tl.arange(0, BLOCK_K), LARGE)[None, :]
    column_tap = index(tap_begin + column // BLOCK_C, LARGE)

    share = tl.cdiv(tl.cdiv(pixels, BLOCK_P), splits)
    total = tl.zeros([BLOCK_K * BLOCK_C, BLOCK_O], tl.float32)
    for number in range(split * share, tl.minimum((split + 1) * share, tl.cdiv(pixels, BLOCK_P))):
        pixel = index(number + tl.zeros([BLOCK_P, 1], tl.int32), LARGE) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
        valid = pixel < pixels
        n, place, centre_y, centre_x = windows(pixel, plane, out_width, stride_y, stride_x, padding_y, padding_x, half_y, half_x)
        first, values = parameter_values(parameter, n, place, parameter_group, parameter_groups, plane, taps, valid, KIND)
        present = valid & (tap < taps)
        y, x = positions(
            first, values, table, tap, taps, present, plane, kernel_columns, centre_y, centre_x,
            half_y, half_x, dilation_y, dilation_x, eps, KIND,
        )  # fmt: skip
        columns = blend(
            image, n, y, x, present, height, width, channels, begin + block, (column % BLOCK_C)[None, :], (local < cell)[None, :],
            BLOCK_P, BLOCK_K, BLOCK_C,
        )  # fmt: skip
        if mask is not None:
            factor = factors(mask, n, place, parameter_group, parameter_groups, plane, tap, taps, present)
            columns *= spread(factor, BLOCK_P, BLOCK_K, BLOCK_C)
        incoming = tl.load(grad + (pixel * (groups * outputs) + (group * outputs + output)), valid & (output < outputs), other=0.0)
        total = product(tl.trans(columns.to(incoming.dtype)), incoming, total, PRECISION)

    row = ((split * groups + group) * taps + column_tap) * group_channels + (begin - group * group_channels + local)
    wanted = ((local < cell) & (column_tap < taps))[:, None] & (output < outputs)
    tl.store(partial + (row[:, None] * outputs + output), total, wanted)


@triton.jit(do_not_specialize=SIZES)
def depthwise_backward_of_weight(
    image, parameter, mask, table, grad, partial, eps,
    pixels, plane, out_width, height, width, channels, outputs, cell, groups, parameter_groups,
    kernel_rows, kernel_columns, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x, splits,
    KIND: tl.constexpr, LARGE: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One tap and output of each of BLOCK_C channels, summed over a part of the pixels, a program. partial: [splits, taps, outputs, C], float32."""
    taps = kernel_rows * kernel_columns
    half_y, half_x = dilation_y * (kernel_rows - 1) * 0.5, dilation_x * (kernel_columns - 1) * 0.5
    blocks = tl.cdiv(cell, BLOCK_C)
    program = tl.program_id(0)
    split = program % splits
    program = program // splits
    output = program % outputs
    program = program // outputs
    tap = index(program % taps + tl.zeros([1, 1], tl.int32), LARGE)
    program = program // taps
    block, parameter_group = (program % blocks) * BLOCK_C, program // blocks
    start, lane = parameter_group * cell + block, tl.arange(0, BLOCK_C)[None, :]
    channel = start + lane
    wanted = block + lane < cell

    share = tl.cdiv(tl.cdiv(pixels, BLOCK_P), splits)
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for number in range(split * share, tl.minimum((split + 1) * share, tl.cdiv(pixels, BLOCK_P))):
        pixel = index(number + tl.zeros([BLOCK_P, 1], tl.int32), LARGE) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
        valid = pixel < pixels
        n, place, centre_y, centre_x = windows(pixel, plane, out_width, stride_y, stride_x, padding_y, padding_x, half_y, half_x)
        first, values = parameter_values(parameter, n, place, parameter_group, parameter_groups, plane, taps, valid, KIND)
        y, x = positions(
            first, values, table, tap, taps, valid, plane, kernel_columns, centre_y, centre_x, half_y, half_x, dilation_y, dilation_x, eps, KIND
        )
        columns = blend(image, n, y, x, valid, height, width, channels, start, lane, wanted, BLOCK_P, 1, BLOCK_C)
        if mask is not None:
            columns *= factors(mask, n, place, parameter_group, parameter_groups, plane, tap, taps, valid)
        incoming = tl.load(grad + (pixel * (channels * outputs) + channel * outputs + output), valid & wanted, other=0.0)
        total += columns * incoming.to(tl.float32)
    tl.store(partial + (((split * taps + tap) * outputs + output) * channels + channel), tl.sum(total, 0, keep_dims=True), wanted)

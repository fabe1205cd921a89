"""Forward kernels: columns are sampled into registers and contracted with the weight there; none reaches memory.

Images are [N, H, W, C], contiguous; outputs are [pixels, C_out]. The channels fall into cells, each in one group of the weight and one of the
parameter.
"""

import triton
import triton.language as tl

from .sampling import blend, factors, index, parameter_values, positions, product, spread, windows

#: of these no kernel is compiled anew for every multiple of 16
SIZES = (
    'pixels', 'plane', 'out_width', 'height', 'width', 'kernel_rows', 'kernel_columns', 'stride_y', 'stride_x', 'padding_y', 'padding_x',
    'dilation_y', 'dilation_x', 'groups', 'parameter_groups', 'splits',
)  # fmt: skip


@triton.jit(do_not_specialize=SIZES[:-1])
def dense_forward(
    image, parameter, mask, table, weight, bias, out, eps,
    pixels, plane, out_width, height, width, channels, outputs, cell, groups, parameter_groups,
    kernel_rows, kernel_columns, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    KIND: tl.constexpr, LARGE: tl.constexpr, PRECISION: tl.constexpr, ONE_BLOCK: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """BLOCK_P pixels x BLOCK_O outputs of one group a program. weight: [groups, taps, C / groups, C_out / groups]."""
    taps = kernel_rows * kernel_columns
    half_y, half_x = dilation_y * (kernel_rows - 1) * 0.5, dilation_x * (kernel_columns - 1) * 0.5
    blocks = tl.cdiv(outputs, BLOCK_O)
    program = tl.program_id(0)
    output = (program % blocks) * BLOCK_O + tl.arange(0, BLOCK_O)[None, :]
    group = (program // blocks) % groups
    pixel = index(program // (blocks * groups), LARGE) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    valid = pixel < pixels
    n, place, centre_y, centre_x = windows(pixel, plane, out_width, stride_y, stride_x, padding_y, padding_x, half_y, half_x)

    group_channels = channels // groups
    column = tl.arange(0, BLOCK_K * BLOCK_C)
    total = tl.zeros([BLOCK_P, BLOCK_O], tl.float32)
    for number in range(group * group_channels // cell, (group + 1) * group_channels // cell):
        begin = number * cell
        parameter_group = begin // (channels // parameter_groups)
        first, values = parameter_values(parameter, n, place, parameter_group, parameter_groups, plane, taps, valid, KIND)
        for tap_begin in range(0, taps, BLOCK_K):
            tap = index(tap_begin + tl.arange(0, BLOCK_K), LARGE)
            present = valid & (tap < taps)[None, :]
            y, x = positions(
                first, values, table, tap[None, :], taps, present, plane, kernel_columns, centre_y, centre_x,
                half_y, half_x, dilation_y, dilation_x, eps, KIND,
            )  # fmt: skip
            factor = factors(mask, n, place, parameter_group, parameter_groups, plane, tap[None, :], taps, present)
            column_tap = index(tap_begin + column // BLOCK_C, LARGE)
            for block in range(0, BLOCK_C if ONE_BLOCK else cell, BLOCK_C):
                local = block + column % BLOCK_C
                columns = blend(
                    image, n, y, x, present, height, width, channels, begin + block, (column % BLOCK_C)[None, :], (local < cell)[None, :],
                    BLOCK_P, BLOCK_K, BLOCK_C,
                )  # fmt: skip
                if mask is not None:
                    columns *= spread(factor, BLOCK_P, BLOCK_K, BLOCK_C)
                row = (group * taps + column_tap) * group_channels + (begin - group * group_channels + local)
                known = ((local < cell) & (column_tap < taps))[:, None] & (output < outputs)
                kernel = tl.load(weight + (row[:, None] * outputs + output), known, other=0.0)
                total = product(columns.to(kernel.dtype), kernel, total, PRECISION)

    channel = group * outputs + output
    wanted = output < outputs
    if bias is not None:
        total += tl.load(bias + channel, wanted, other=0.0).to(tl.float32)
    tl.store(out + (pixel * (groups * outputs) + channel), total.to(out.dtype.element_ty), valid & wanted)


@triton.jit(do_not_specialize=SIZES[:-1])
def depthwise_forward(
    image, parameter, mask, table, weight, bias, out, eps,
    pixels, plane, out_width, height, width, channels, outputs, cell, groups, parameter_groups,
    kernel_rows, kernel_columns, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    KIND: tl.constexpr, LARGE: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One output of each of BLOCK_C channels of one group of parameters, at BLOCK_P pixels, a program. weight: [taps, outputs, C]."""
    taps = kernel_rows * kernel_columns
    half_y, half_x = dilation_y * (kernel_rows - 1) * 0.5, dilation_x * (kernel_columns - 1) * 0.5
    blocks = tl.cdiv(cell, BLOCK_C)
    program = tl.program_id(0)
    output = program % outputs
    block = (program // outputs) % blocks * BLOCK_C
    parameter_group = (program // (outputs * blocks)) % parameter_groups
    start, lane = parameter_group * cell + block, tl.arange(0, BLOCK_C)[None, :]
    channel = start + lane
    wanted = block + lane < cell
    pixel = index(program // (outputs * blocks * parameter_groups), LARGE) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    valid = pixel < pixels
    n, place, centre_y, centre_x = windows(pixel, plane, out_width, stride_y, stride_x, padding_y, padding_x, half_y, half_x)

    first, values = parameter_values(parameter, n, place, parameter_group, parameter_groups, plane, taps, valid, KIND)
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for number in range(0, taps):
        tap = index(number + tl.zeros([1, 1], tl.int32), LARGE)
        y, x = positions(
            first, values, table, tap, taps, valid, plane, kernel_columns, centre_y, centre_x, half_y, half_x, dilation_y, dilation_x, eps, KIND
        )
        columns = blend(image, n, y, x, valid, height, width, channels, start, lane, wanted, BLOCK_P, 1, BLOCK_C)
        if mask is not None:
            columns *= factors(mask, n, place, parameter_group, parameter_groups, plane, tap, taps, valid)
        total += columns * tl.load(weight + ((tap * outputs + output) * channels + channel), wanted, other=0.0).to(tl.float32)

    if bias is not None:
        total += tl.load(bias + (channel * outputs + output), wanted, other=0.0).to(tl.float32)
    tl.store(out + (pixel * (channels * outputs) + channel * outputs + output), total.to(out.dtype.element_ty), valid & wanted)

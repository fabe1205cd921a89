"""The backward kernel of everything but the weight: positions and samples are computed again, and no column reaches memory here either."""

import triton
import triton.language as tl

from .forward_kernels import SIZES
from .sampling import (
    OFFSET,
    SHIFT,
    corner,
    factors,
    forms,
    index,
    norms,
    parameter_values,
    positions,
    product,
    side,
    spread,
    sum_channels,
    support,
    windows,
)

#: what stands for NaN among fixed-point sums, all of which stay below 2 ** 60
NOT_A_NUMBER = tl.constexpr(2**62)
INFINITY = tl.constexpr(float('inf'))
#: the root of what a form is clamped to
CLAMPED = tl.constexpr(2.0**-63)


@triton.jit
def scatter(pointer, value, scale, wanted, FIXED_POINT: tl.constexpr):
    """Adds to the gradient of the image. Integers sum to the same in any order, and the largest of two is the same in any order too."""
    if FIXED_POINT:
        finite = tl.abs(value) < INFINITY
        whole = tl.floor(tl.where(finite, value, 0.0) * scale + 0.5).to(tl.int64)
        tl.atomic_add(pointer, whole, wanted & finite, sem='relaxed')
        tl.atomic_max(pointer, tl.zeros_like(whole) + NOT_A_NUMBER, wanted & (finite == 0), sem='relaxed')
    else:
        tl.atomic_add(pointer, value, wanted, sem='relaxed')


@triton.jit
def through_norm(values, table, tap, taps, eps, grad_y, grad_x, KIND: tl.constexpr):
    """From the gradient by the positions of taps to those by w' u, and by u' M u."""
    u, v, radius = support(table, tap, taps)
    alpha, beta = forms(values, u, v)
    value, by_alpha, by_beta = norms(alpha, beta, KIND)
    norm = value + eps
    # beyond the last tap an infinite metric times 0 is not a number
    by_norm = tl.where(tap < taps, tl.div_rn(-radius * (grad_x * u + grad_y * v), norm * norm), 0.0)
    by_drift = tl.where(tap < taps, by_norm * by_beta, 0.0)
    # where the form was clamped its slope is 0, but NaN stays NaN
    by_form = tl.where(alpha > CLAMPED, tl.div_rn(by_norm * by_alpha, 2.0 * alpha), 0.0 * by_norm)
    return u, v, by_drift, by_form


@triton.jit(do_not_specialize=SIZES)
def backward_of_samples(
    image, parameter, mask, table, weight, grad, grad_image, grad_parameter, grad_mask, scale, eps,
    pixels, plane, out_width, height, width, channels, outputs, cell, groups, parameter_groups,
    kernel_rows, kernel_columns, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x, splits,
    KIND: tl.constexpr, DEPTHWISE: tl.constexpr, LARGE: tl.constexpr, PRECISION: tl.constexpr, FIXED_POINT: tl.constexpr, KEEP_GRAD: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """Gradients of image, parameter and mask at BLOCK_P pixels, by one of ``splits`` parts of the taps of one group of parameters, a program.

    scale: the units of fixed-point sums in 1, for every image. grad_parameter is [splits, N, G * 5 or 2, plane] where the taps share their
    parameters. KEEP_GRAD: there is one group of outputs, and it fits in a block.
    """
    taps = kernel_rows * kernel_columns
    half_y, half_x = dilation_y * (kernel_rows - 1) * 0.5, dilation_x * (kernel_columns - 1) * 0.5
    program = tl.program_id(0)
    split = program % splits
    parameter_group = (program // splits) % parameter_groups
    pixel = index(program // (splits * parameter_groups), LARGE) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    valid = pixel < pixels
    n, place, centre_y, centre_x = windows(pixel, plane, out_width, stride_y, stride_x, padding_y, padding_x, half_y, half_x)
    first, values = parameter_values(parameter, n, place, parameter_group, parameter_groups, plane, taps, valid, KIND)

    group_channels = channels // groups
    column = tl.arange(0, BLOCK_K * BLOCK_C)
    output = tl.arange(0, BLOCK_O)
    cells, blocks = channels // parameter_groups // cell, tl.cdiv(cell, BLOCK_C)
    share = tl.cdiv(tl.cdiv(taps, splits), BLOCK_K) * BLOCK_K
    by_0 = tl.zeros([BLOCK_P, 1], tl.float32)
    by_1, by_2, by_3, by_4 = by_0, by_0, by_0, by_0
    if KEEP_GRAD:
        kept = tl.load(grad + (pixel * outputs + output[None, :]), valid & (output < outputs)[None, :], other=0.0)

    units = tl.load(scale + n, valid, other=1.0) if FIXED_POINT else 1.0

    for tap_begin in range(split * share, tl.minimum((split + 1) * share, taps), BLOCK_K):
        tap = index(tap_begin + tl.arange(0, BLOCK_K), LARGE)[None, :]
        present = valid & (tap < taps)
        y, x = positions(
            first, values, table, tap, taps, present, plane, kernel_columns, centre_y, centre_x,
            half_y, half_x, dilation_y, dilation_x, eps, KIND,
        )  # fmt: skip
        top, down = side(y, height)
        left, right = side(x, width)
        factor = factors(mask, n, place, parameter_group, parameter_groups, plane, tap, taps, present)
        column_tap = index(tap_begin + column // BLOCK_C, LARGE)
        # <image there, gradient of the columns> of the four neighbours
        dot_00 = tl.zeros([BLOCK_P, BLOCK_K], tl.float32)
        dot_01, dot_10, dot_11 = dot_00, dot_00, dot_00
        for block in range(0, cells * blocks):
            # a multiple of cell: the compiler sees what it can load as one vector
            begin = (parameter_group * cells + block // blocks) * cell
            lane = column % BLOCK_C
            local = (block % blocks) * BLOCK_C + lane
            start = begin + (block % blocks) * BLOCK_C
            channel = start + lane
            wanted = (local < cell) & (column_tap < taps)
            grad_columns = tl.zeros([BLOCK_P, BLOCK_K * BLOCK_C], tl.float32)
            if DEPTHWISE:
                for number in range(0, outputs):
                    kernel = tl.load(weight + ((column_tap * outputs + number) * channels + channel), wanted, other=0.0)
                    incoming = tl.load(
                        grad + (pixel * (channels * outputs) + (channel * outputs + number)[None, :]), valid & wanted[None, :], other=0.0
                    )
                    grad_columns += incoming.to(tl.float32) * kernel.to(tl.float32)[None, :]
            else:
                group = begin // group_channels
                row = (group * taps + column_tap) * group_channels + (channel - group * group_channels)
                for output_begin in range(0, BLOCK_O if KEEP_GRAD else outputs, BLOCK_O):
                    within = output_begin + output
                    kernel = tl.load(weight + (row[None, :] * outputs + within[:, None]), wanted[None, :] & (within < outputs)[:, None], other=0.0)
                    if KEEP_GRAD:
                        incoming = kept
                    else:
                        at = pixel * (groups * outputs) + (group * outputs + within)[None, :]
                        incoming = tl.load(grad + at, valid & (within < outputs)[None, :], other=0.0)
                    grad_columns = product(incoming, kernel, grad_columns, PRECISION)
                # an infinite gradient times the 0 beyond the last channel is not a number
                grad_columns = tl.where(wanted[None, :], grad_columns, 0.0)
            for ROW in tl.static_range(2):
                for COLUMN in tl.static_range(2):
                    pixel_row, inside, share_of, _, _ = corner(n, top, left, down, right, present, height, width, ROW, COLUMN)
                    offset = pixel_row * channels + start
                    readable = spread(inside, BLOCK_P, BLOCK_K, BLOCK_C) & wanted[None, :]
                    if grad_parameter is not None or grad_mask is not None:
                        value = tl.load(spread(image + offset, BLOCK_P, BLOCK_K, BLOCK_C) + lane[None, :], readable, other=0.0).to(tl.float32)
                        dot = sum_channels(value * grad_columns, BLOCK_P, BLOCK_K, BLOCK_C)
                        if ROW == 0 and COLUMN == 0:
                            dot_00 += dot
                        elif ROW == 0:
                            dot_01 += dot
                        elif COLUMN == 0:
                            dot_10 += dot
                        else:
                            dot_11 += dot
                    if grad_image is not None:
                        pointer = spread(grad_image + offset, BLOCK_P, BLOCK_K, BLOCK_C) + lane[None, :]
                        added = grad_columns * spread(share_of * factor, BLOCK_P, BLOCK_K, BLOCK_C)
                        scatter(pointer, added, units, readable, FIXED_POINT)

        sample = tl.zeros([BLOCK_P, BLOCK_K], tl.float32)
        grad_y, grad_x = sample, sample
        for ROW in tl.static_range(2):
            for COLUMN in tl.static_range(2):
                _, _, share_of, slope_y, slope_x = corner(n, top, left, down, right, present, height, width, ROW, COLUMN)
                dot = (dot_11 if COLUMN == 1 else dot_10) if ROW == 1 else (dot_01 if COLUMN == 1 else dot_00)
                sample += share_of * dot
                grad_y += slope_y * factor * dot
                grad_x += slope_x * factor * dot
        if grad_mask is not None:
            at = ((n * parameter_groups + parameter_group) * taps + tap) * plane + place
            tl.store(grad_mask + at, sample.to(grad_mask.dtype.element_ty), present)
        if grad_parameter is not None:
            if KIND == SHIFT:
                by_0 += tl.sum(grad_y, 1, keep_dims=True)
                by_1 += tl.sum(grad_x, 1, keep_dims=True)
            elif KIND == OFFSET:
                at = ((n * parameter_groups + parameter_group) * (2 * taps) + 2 * tap) * plane + place
                tl.store(grad_parameter + at, grad_y.to(grad_parameter.dtype.element_ty), present)
                tl.store(grad_parameter + (at + plane), grad_x.to(grad_parameter.dtype.element_ty), present)
            else:
                u, v, by_drift, by_form = through_norm(values, table, tap, taps, eps, grad_y, grad_x, KIND)
                by_0 += tl.sum(by_form * (u * u), 1, keep_dims=True)
                by_1 += tl.sum(by_form * (2 * u * v), 1, keep_dims=True)
                by_2 += tl.sum(by_form * (v * v), 1, keep_dims=True)
                by_3 += tl.sum(by_drift * u, 1, keep_dims=True)
                by_4 += tl.sum(by_drift * v, 1, keep_dims=True)

    if grad_parameter is not None and KIND != OFFSET:
        numbers = 2 if KIND == SHIFT else 5
        images = pixels // plane
        at = grad_parameter + (((split * images + n) * parameter_groups + parameter_group) * numbers * plane + place)
        element = grad_parameter.dtype.element_ty
        tl.store(at, by_0.to(element), valid)
        tl.store(at + plane, by_1.to(element), valid)
        if KIND != SHIFT:
            tl.store(at + plane * 2, by_2.to(element), valid)
            tl.store(at + plane * 3, by_3.to(element), valid)
            tl.store(at + plane * 4, by_4.to(element), valid)

"""Device functions: where the taps of output pixels lie, and the four neighbours that a bilinear sample blends.

A program works on BLOCK_P output pixels, BLOCK_K taps and BLOCK_C channels at once. What belongs to a pixel has the shape [BLOCK_P, 1], to one
of its taps [BLOCK_P, BLOCK_K], and to a channel there, a column, [BLOCK_P, BLOCK_K * BLOCK_C], channels fastest.
"""

import triton
import triton.language as tl
from triton import knobs

SHIFT = tl.constexpr(1)
OFFSET = tl.constexpr(2)
MATSUMOTO = tl.constexpr(3)
INTERPRETED = tl.constexpr(knobs.runtime.interpret)
#: the smallest normal float32: what a form is clamped to, as in the reference
TINY = tl.constexpr(2.0**-126)


@triton.jit
def index(value, LARGE: tl.constexpr):
    """64 bits where 32 cannot count the elements of a tensor."""
    return value.to(tl.int64) if LARGE else value


@triton.jit
def product(a, b, total, PRECISION: tl.constexpr):
    if INTERPRETED and a.dtype == tl.bfloat16:
        # the interpreter would multiply the bits
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision=PRECISION)
    else:
        return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def spread(of_taps, BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr):
    """From taps to columns."""
    if BLOCK_K == 1:
        return of_taps
    else:
        return tl.reshape(tl.broadcast_to(of_taps[:, :, None], [BLOCK_P, BLOCK_K, BLOCK_C]), [BLOCK_P, BLOCK_K * BLOCK_C])


@triton.jit
def sum_channels(of_columns, BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr):
    """From columns to taps."""
    if BLOCK_K == 1:
        return tl.sum(of_columns, 1, keep_dims=True)
    else:
        return tl.sum(tl.reshape(of_columns, [BLOCK_P, BLOCK_K, BLOCK_C]), 2)


@triton.jit
def windows(pixel, plane, out_width, stride_y, stride_x, padding_y, padding_x, half_y, half_x):
    """Of every output pixel: its image, its place in the plane, and the centre (y, x) of its window."""
    image = pixel // plane
    place = pixel - image * plane
    row = place // out_width
    column = place - row * out_width
    return image, place, row.to(tl.float32) * stride_y + (half_y - padding_y), column.to(tl.float32) * stride_x + (half_x - padding_x)


@triton.jit
def parameter_values(parameter, image, place, group, groups, plane, taps, valid, KIND: tl.constexpr):
    """Where the parameters of a group begin, and those that all taps share."""
    if KIND == OFFSET:
        first = parameter + (image * groups + group) * (2 * taps) * plane + place
        return first, (0.0, 0.0, 0.0, 0.0, 0.0)
    elif KIND == SHIFT:
        first = parameter + (image * groups + group) * 2 * plane + place
        dy = tl.load(first, valid, other=0.0).to(tl.float32)
        dx = tl.load(first + plane, valid, other=0.0).to(tl.float32)
        return first, (dy, dx, 0.0, 0.0, 0.0)
    else:
        first = parameter + (image * groups + group) * 5 * plane + place
        m_xx = tl.load(first, valid, other=0.0).to(tl.float32)
        m_xy = tl.load(first + plane, valid, other=0.0).to(tl.float32)
        m_yy = tl.load(first + plane * 2, valid, other=0.0).to(tl.float32)
        w_x = tl.load(first + plane * 3, valid, other=0.0).to(tl.float32)
        w_y = tl.load(first + plane * 4, valid, other=0.0).to(tl.float32)
        return first, (m_xx, m_xy, m_yy, w_x, w_y)


@triton.jit
def support(table, tap, taps):
    """u, v and the radius of taps in a metric's reference support."""
    known = tap < taps
    u = tl.load(table + 3 * tap, known, other=0.0)
    v = tl.load(table + 3 * tap + 1, known, other=0.0)
    return u, v, tl.load(table + 3 * tap + 2, known, other=0.0)


@triton.jit
def forms(values, u, v):
    """alpha = sqrt(u' M u) and beta = w' u."""
    m_xx, m_xy, m_yy, w_x, w_y = values
    form = m_xx * (u * u) + m_xy * (2 * u * v) + m_yy * (v * v)
    # rounding can make the form of a nearly singular matrix slightly negative; NaN stays NaN
    alpha = tl.sqrt_rn(tl.where(form < TINY, TINY, form))
    return alpha, w_x * u + w_y * v


@triton.jit
def norms(alpha, beta, KIND: tl.constexpr):
    """F(u) of geometry/norms.py, and its slopes by alpha and beta."""
    if KIND == MATSUMOTO:
        ratio = tl.div_rn(alpha, alpha - beta)
        return alpha * ratio, ratio * (2.0 - ratio), ratio * ratio
    else:
        return alpha + beta, 1.0, 1.0


@triton.jit
def positions(
    first, values, table, tap, taps, present, plane, kernel_columns, centre_y, centre_x, half_y, half_x, dilation_y, dilation_x, eps,
    KIND: tl.constexpr,
):  # fmt: skip
    """(y, x) of taps in pixels, always in float32."""
    if KIND != SHIFT and KIND != OFFSET:
        u, v, radius = support(table, tap, taps)
        alpha, beta = forms(values, u, v)
        norm = norms(alpha, beta, KIND)[0] + eps
        return centre_y + tl.div_rn(radius * v, norm), centre_x + tl.div_rn(radius * u, norm)
    else:
        row = tap // kernel_columns
        column = tap - row * kernel_columns
        if KIND == SHIFT:
            dy, dx = values[0], values[1]
        else:
            dy = tl.load(first + 2 * tap * plane, present, other=0.0).to(tl.float32)
            dx = tl.load(first + (2 * tap + 1) * plane, present, other=0.0).to(tl.float32)
        grid_y = row.to(tl.float32) * dilation_y - half_y
        grid_x = column.to(tl.float32) * dilation_x - half_x
        return centre_y + (grid_y + dy), centre_x + (grid_x + dx)


@triton.jit
def factors(mask, image, place, group, groups, plane, tap, taps, present):
    """The mask of taps; 1 without one."""
    if mask is None:
        return 1.0
    else:
        return tl.load(mask + ((image * groups + group) * taps + tap) * plane + place, present, other=0.0).to(tl.float32)


@triton.jit
def side(position, size):
    """The pixel before a position along one axis, and how far past it the position is: NaN for NaN."""
    lost = position != position
    # clamped to where both sides are outside, before it becomes an integer: NaN and the huge have none
    inside = tl.minimum(tl.maximum(tl.where(lost, 0.0, position), -2.0), size + 1.0)
    before = tl.floor(inside)
    return before.to(tl.int32), tl.where(lost, position, inside - before)


@triton.jit
def neighbour(before, fraction, present, size, SIDE: tl.constexpr):
    """The pixel on one side, the first for NaN; whether it is in the image; its linear weight and the weight's slope, both 0 outside."""
    pixel = tl.where(fraction != fraction, 0, before + SIDE)
    inside = present & (pixel >= 0) & (pixel < size)
    weight = fraction if SIDE == 1 else 1.0 - fraction
    slope = 1.0 if SIDE == 1 else -1.0
    return pixel, inside, tl.where(inside, weight, 0.0), tl.where(inside, slope, 0.0)


@triton.jit
def corner(image, top, left, down, right, present, height, width, ROW: tl.constexpr, COLUMN: tl.constexpr):
    """A neighbour of every position: its row of channels, whether it is in the image, its weight, and that one's slopes by y and x."""
    y, in_y, weight_y, slope_y = neighbour(top, down, present, height, ROW)
    x, in_x, weight_x, slope_x = neighbour(left, right, present, width, COLUMN)
    return (image * height + y) * width + x, in_y & in_x, weight_y * weight_x, slope_y * weight_x, weight_y * slope_x


@triton.jit
def blend(
    pixels, image, y, x, present, height, width, channels, start, lane, wanted,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The samples of columns, channels ``start + lane``, in float32; no neighbour outside the image is read."""
    top, down = side(y, height)
    left, right = side(x, width)
    total = tl.zeros([BLOCK_P, BLOCK_K * BLOCK_C], tl.float32)
    for ROW in tl.static_range(2):
        for COLUMN in tl.static_range(2):
            row, inside, weight, _, _ = corner(image, top, left, down, right, present, height, width, ROW, COLUMN)
            # a pointer of a row and constant steps within it, not a pointer of every element, which would take all registers
            pointer = spread(pixels + (row * channels + start), BLOCK_P, BLOCK_K, BLOCK_C) + lane
            value = tl.load(pointer, spread(inside, BLOCK_P, BLOCK_K, BLOCK_C) & wanted, other=0.0)
            total += value.to(tl.float32) * spread(weight, BLOCK_P, BLOCK_K, BLOCK_C)
    return total

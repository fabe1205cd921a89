"""Kernels of encode_metric: geometry/encodings.py for a block of pixels a program, and its gradient from raw alone.

Everything but a length is float32. Comparisons keep NaN, and gradients at kinks are those of PyTorch.
"""

import triton
import triton.language as tl

CHOLESKY, LDL, SPECTRAL, SPECTRAL_SCALED, ISOTROPIC = (tl.constexpr(i) for i in range(5))
SIGMOID, SIGMOID_DETACHED, CLIP_DETACHED = (tl.constexpr(i) for i in range(3))
TINY = tl.constexpr(2.0**-126)
#: 8 units in the last place
ROUNDING = tl.constexpr(2.0**-20)


@triton.jit
def sign(x):
    return tl.where(x > 0, 1.0, 0.0) - tl.where(x < 0, 1.0, 0.0)


@triton.jit
def direction(x, y, EPS: tl.constexpr):
    """(x, y) / length, length, and whether it is too short to have a direction: then (1, 0)."""
    # squares neither overflow nor underflow in float64
    length = tl.sqrt(x.to(tl.float64) * x.to(tl.float64) + y.to(tl.float64) * y.to(tl.float64)).to(tl.float32)
    short = length < EPS
    length = tl.where(short, 1.0, length)
    return tl.div_rn(tl.where(short, 1.0, x), length), tl.div_rn(tl.where(short, 0.0, y), length), length, short


@triton.jit
def encode_matrix(a, b, c, d, e, ENCODING: tl.constexpr, LOW: tl.constexpr, SPREAD: tl.constexpr, EPS_L: tl.constexpr, EPS: tl.constexpr):
    """M, as its channels xx, xy, yy, from the raw channels before the drift's."""
    if ENCODING == CHOLESKY:
        l11 = tl.abs(a) + EPS_L
        l22 = tl.abs(c) + EPS_L
        return l11 * l11, l11 * b, b * b + l22 * l22
    elif ENCODING == LDL:
        d1 = tl.abs(b) + EPS_L
        return d1, d1 * a, d1 * a * a + (tl.abs(c) + EPS_L)
    elif ENCODING == ISOTROPIC:
        value = LOW + SPREAD * tl.sigmoid(a)
        return value, tl.zeros_like(value), value
    else:
        x, y, _length, _short = direction(a, b, EPS)
        if ENCODING == SPECTRAL:
            along = tl.abs(c) + EPS_L
            across = tl.abs(d) + EPS_L
        else:
            scale = LOW + SPREAD * tl.sigmoid(e)
            along = 2 * tl.sigmoid(c) * scale
            across = 2 * tl.sigmoid(d) * scale
        return along * x * x + across * y * y, (along - across) * x * y, along * y * y + across * x * x


@triton.jit
def encode_matrix_backward(
    a, b, c, d, e, xx, xy, yy, ENCODING: tl.constexpr, LOW: tl.constexpr, SPREAD: tl.constexpr, EPS_L: tl.constexpr, EPS: tl.constexpr
):
    """The gradients of five raw channels, of which those beyond the encoding's are not to be used, from the gradient (xx, xy, yy) of M."""
    if ENCODING == CHOLESKY:
        l11 = tl.abs(a) + EPS_L
        l22 = tl.abs(c) + EPS_L
        return (xy * b + xx * l11 + xx * l11) * sign(a), xy * l11 + (yy * b + yy * b), (yy * l22 + yy * l22) * sign(c), d, e
    elif ENCODING == LDL:
        d1 = tl.abs(b) + EPS_L
        return xy * d1 + (yy * (d1 * a) + yy * a * d1), (xx + xy * a + yy * a * a) * sign(b), yy * sign(c), d, e
    elif ENCODING == ISOTROPIC:
        share = tl.sigmoid(a)
        return (xx + yy) * SPREAD * share * (1 - share), b, c, d, e
    else:
        x, y, length, short = direction(a, b, EPS)
        by_along = xx * x * x + xy * y * x + yy * y * y
        by_across = xx * y * y - xy * y * x + yy * x * x
        if ENCODING == SPECTRAL:
            difference = tl.abs(c) - tl.abs(d)
            by_c = by_along * sign(c)
            by_d = by_across * sign(d)
            by_e = e
        else:
            along = tl.sigmoid(c)
            across = tl.sigmoid(d)
            mean = tl.sigmoid(e)
            scale = LOW + SPREAD * mean
            difference = 2 * along * scale - 2 * across * scale
            by_c = by_along * scale * 2 * along * (1 - along)
            by_d = by_across * scale * 2 * across * (1 - across)
            by_e = 2 * (by_along * along + by_across * across) * SPREAD * mean * (1 - mean)
        # by the angle, over the length: exactly 0 where M is isotropic
        turn = tl.div_rn(difference, length) * (2 * (yy - xx) * x * y + xy * (x * x - y * y))
        return tl.where(short, 0.0, -turn * y), tl.where(short, 0.0, turn * x), by_c, by_d, by_e


@triton.jit
def drift_factor(xx, xy, yy, x, y, DRIFT: tl.constexpr, BOUND: tl.constexpr, EPS: tl.constexpr):
    """What scales the raw drift (x, y), and the norm, its square before the clamp, and the determinant on the way; M comes with eps added."""
    determinant = xx * yy - xy * xy + EPS
    quotient = tl.div_rn(yy * x * x - 2 * xy * x * y + xx * y * y, determinant)
    norm = tl.sqrt_rn(tl.where(quotient < 0, 0.0, quotient) + EPS)
    bounded = tl.where(norm > BOUND, BOUND, norm) if DRIFT == CLIP_DETACHED else BOUND * (2 * tl.sigmoid(norm) - 1)
    return tl.div_rn(bounded, norm + EPS), norm, quotient, determinant


@triton.jit
def clip_scale(m_xx, xy, m_yy, x, y, CEILING: tl.constexpr):
    """The scale that brings the drift (x, y) below the ceiling, against the smallest matrix that rounding can make of M."""
    slack = (m_xx + m_yy) * ROUNDING
    xx = m_xx - slack
    yy = m_yy - slack
    determinant = xx * (1 - ROUNDING) * yy - xy * xy
    squared = tl.div_rn((yy * x * x + xx * y * y) * (1 + ROUNDING) - 2 * xy * x * y, determinant)
    scale = tl.div_rn(tl.full(squared.shape, CEILING, tl.float32), tl.sqrt_rn(tl.where(squared < TINY, TINY, squared)))
    return tl.where((determinant > 0) & (xx > 0), tl.where(scale > 1, 1.0, scale), 0.0)


@triton.jit
def place(pixels, groups, BLOCK: tl.constexpr):
    """Image, group, pixels and mask of a program. 64 bits: raw can have more elements than 32 count."""
    blocks = tl.cdiv(pixels, BLOCK)
    program = tl.program_id(0)
    plane = program // blocks
    pixel = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    return (plane // groups).to(tl.int64), (plane % groups).to(tl.int64), pixel.to(tl.int64), pixel < pixels


@triton.jit
def load(start, channel: tl.constexpr, step, mask):
    return tl.load(start + channel * step, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def load_raw(start, step, mask, MATRIX: tl.constexpr, CHANNELS: tl.constexpr):
    """Five channels of the matrix, the last of which are repeated where the encoding has fewer, and the drift, as if it were one more if there is none."""
    a = load(start, 0, step, mask)
    b = load(start, 1, step, mask) if MATRIX > 1 else a
    c = load(start, 2, step, mask) if MATRIX > 2 else b
    d = load(start, 3, step, mask) if MATRIX > 3 else c
    e = load(start, 4, step, mask) if MATRIX > 4 else d
    x = load(start, MATRIX, step, mask) if CHANNELS > MATRIX else e
    y = load(start, MATRIX + 1, step, mask) if CHANNELS > MATRIX else x
    return a, b, c, d, e, x, y


@triton.jit
def encode(
    raw, metric, pixels, groups, raw_image, raw_channel, raw_pixel,
    ENCODING: tl.constexpr, DRIFT: tl.constexpr, MATRIX: tl.constexpr, CHANNELS: tl.constexpr, BOUND: tl.constexpr, LOW: tl.constexpr,
    SPREAD: tl.constexpr, EPS_L: tl.constexpr, EPS: tl.constexpr, CEILING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image, group, pixel, mask = place(pixels, groups, BLOCK)
    start = raw + image * raw_image + group * CHANNELS * raw_channel + pixel * raw_pixel
    a, b, c, d, e, x, y = load_raw(start, raw_channel, mask, MATRIX, CHANNELS)
    xx, xy, yy = encode_matrix(a, b, c, d, e, ENCODING, LOW, SPREAD, EPS_L, EPS)
    if BOUND == 0:
        x = tl.zeros_like(x)
        y = tl.zeros_like(y)
    else:
        factor, _norm, _quotient, _determinant = drift_factor(xx + EPS, xy, yy + EPS, x, y, DRIFT, BOUND, EPS)
        x *= factor
        y *= factor
        if CEILING > 0:
            scale = clip_scale(xx, xy, yy, x, y, CEILING)
            x *= scale
            y *= scale
    out = metric + (image * groups + group) * 5 * pixels + pixel
    tl.store(out, xx, mask=mask)
    tl.store(out + pixels, xy, mask=mask)
    tl.store(out + 2 * pixels, yy, mask=mask)
    tl.store(out + 3 * pixels, x, mask=mask)
    tl.store(out + 4 * pixels, y, mask=mask)


@triton.jit
def encode_backward(
    grad, raw, grad_raw, pixels, groups, grad_image, grad_channel, grad_pixel, raw_image, raw_channel, raw_pixel, out_image, out_channel, out_pixel,
    ENCODING: tl.constexpr, DRIFT: tl.constexpr, MATRIX: tl.constexpr, CHANNELS: tl.constexpr, BOUND: tl.constexpr, LOW: tl.constexpr,
    SPREAD: tl.constexpr, EPS_L: tl.constexpr, EPS: tl.constexpr, CEILING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image, group, pixel, mask = place(pixels, groups, BLOCK)
    above = grad + image * grad_image + group * 5 * grad_channel + pixel * grad_pixel
    by_xx = load(above, 0, grad_channel, mask)
    by_xy = load(above, 1, grad_channel, mask)
    by_yy = load(above, 2, grad_channel, mask)
    start = raw + image * raw_image + group * CHANNELS * raw_channel + pixel * raw_pixel
    a, b, c, d, e, x, y = load_raw(start, raw_channel, mask, MATRIX, CHANNELS)
    if BOUND == 0:
        grad_x = tl.zeros_like(x)
        grad_y = tl.zeros_like(y)
    else:
        m_xx, xy, m_yy = encode_matrix(a, b, c, d, e, ENCODING, LOW, SPREAD, EPS_L, EPS)
        xx = m_xx + EPS
        yy = m_yy + EPS
        factor, norm, quotient, determinant = drift_factor(xx, xy, yy, x, y, DRIFT, BOUND, EPS)
        by_x = load(above, 3, grad_channel, mask)
        by_y = load(above, 4, grad_channel, mask)
        if CEILING > 0:
            scale = clip_scale(m_xx, xy, m_yy, x * factor, y * factor, CEILING)
            by_x *= scale
            by_y *= scale
        grad_x = by_x * factor
        grad_y = by_y * factor
        if DRIFT == SIGMOID:
            by_factor = by_x * x + by_y * y
            share = tl.sigmoid(norm)
            by_norm = tl.div_rn(by_factor, norm + EPS) * BOUND * 2 * (1 - share) * share - by_factor * tl.div_rn(factor, norm + EPS)
            by_quotient = tl.where(quotient >= 0, tl.div_rn(by_norm, 2 * norm), 0.0)
            by_adjugate = tl.div_rn(by_quotient, determinant)
            by_determinant = -by_quotient * tl.div_rn(quotient, determinant)
            by_xx += by_adjugate * y * y + by_determinant * yy
            by_yy += by_adjugate * x * x + by_determinant * xx
            by_xy -= by_adjugate * y * x * 2 + (by_determinant * xy + by_determinant * xy)
            grad_x += by_adjugate * (yy * x) + by_adjugate * x * yy - by_adjugate * y * (2 * xy)
            grad_y += by_adjugate * (xx * y) + by_adjugate * y * xx - by_adjugate * (2 * xy * x)
    a, b, c, d, e = encode_matrix_backward(a, b, c, d, e, by_xx, by_xy, by_yy, ENCODING, LOW, SPREAD, EPS_L, EPS)
    out = grad_raw + image * out_image + group * CHANNELS * out_channel + pixel * out_pixel
    dtype: tl.constexpr = grad_raw.dtype.element_ty
    tl.store(out, a.to(dtype), mask=mask)
    if MATRIX > 1:
        tl.store(out + out_channel, b.to(dtype), mask=mask)
        tl.store(out + 2 * out_channel, c.to(dtype), mask=mask)
    if MATRIX > 3:
        tl.store(out + 3 * out_channel, d.to(dtype), mask=mask)
    if MATRIX > 4:
        tl.store(out + 4 * out_channel, e.to(dtype), mask=mask)
    if CHANNELS > MATRIX:
        tl.store(out + MATRIX * out_channel, grad_x.to(dtype), mask=mask)
        tl.store(out + (MATRIX + 1) * out_channel, grad_y.to(dtype), mask=mask)

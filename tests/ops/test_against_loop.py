"""The operators against seven nested loops, with positions worked out on their own."""

import math

import pytest
import torch

from metricconv_mm.functional import deform_conv2d, metric_conv2d, shifted_conv2d
from metricconv_mm.ops.transforms import OPERATORS

GROUPS = 3  # of parameters
EPS = 1e-6


def polar(a, b, rows, columns, dilation):
    angle = 2 * math.pi * b / columns
    return (a + 1) / rows, math.cos(angle), math.sin(angle)


def grid(a, b, rows, columns, dilation):
    y, x = dilation[0] * (a - (rows - 1) / 2), dilation[1] * (b - (columns - 1) / 2)
    radius = math.hypot(x, y)
    return (radius, x / radius, y / radius) if radius else (0.0, 1.0, 0.0)


def onion(a, b, rows, columns, dilation):
    """The sides of a square ring, spread evenly over quarter turns."""
    y, x = a - rows // 2, b - columns // 2
    ring = max(abs(x), abs(y))
    if ring == 0:
        return 0.0, 1.0, 0.0
    eighths = y / ring if x == ring else 2 - x / ring if y == ring else 4 - y / ring if x == -ring else 6 + x / ring
    return ring / (rows // 2), math.cos(math.pi / 4 * eighths), math.sin(math.pi / 4 * eighths)


NORMS = {'randers': lambda alpha, beta: alpha + beta, 'matsumoto': lambda alpha, beta: alpha**2 / (alpha - beta)}


def metric_positions(metric, support, size, stride, padding, dilation, norm='randers', **_):
    def position(n, group, row, column, a, b):
        m_xx, m_xy, m_yy, w_x, w_y = metric[n, 5 * group : 5 * group + 5, row, column].tolist()
        radius, x, y = support(a, b, *size, dilation)
        value = NORMS[norm](math.sqrt(m_xx * x * x + 2 * m_xy * x * y + m_yy * y * y), w_x * x + w_y * y)
        centre = [index * s - p + d * (k - 1) / 2 for index, s, p, d, k in zip((row, column), stride, padding, dilation, size, strict=True)]
        return centre[0] + radius * y / (value + EPS), centre[1] + radius * x / (value + EPS)

    return position


def offset_positions(offset, shared, size, stride, padding, dilation, **_):
    def position(n, group, row, column, a, b):
        channel = 2 * group if shared else 2 * ((group * size[0] + a) * size[1] + b)
        dy, dx = offset[n, channel : channel + 2, row, column].tolist()
        return row * stride[0] - padding[0] + a * dilation[0] + dy, column * stride[1] - padding[1] + b * dilation[1] + dx

    return position


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@pytest.mark.parametrize('with_mask', [True, False])
@pytest.mark.parametrize('support', [polar, grid])
@pytest.mark.parametrize('norm', NORMS)
def test_metric_convolution(draw, lopsided, loop_convolution, norm, support, with_mask):
    input, metric, weight, bias, mask = draw(OPERATORS[norm], mask=with_mask)
    position = metric_positions(metric, support, (3, 2), norm=norm, **lopsided)
    expected = loop_convolution(input, weight, bias, mask, position, metric.shape[2:], lopsided['groups'], GROUPS)
    out = metric_conv2d(input, metric, weight, bias, support=support.__name__, mask=mask, eps=EPS, norm=norm, **lopsided)
    torch.testing.assert_close(out, expected)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('size', [3, 5])
def test_metric_convolution_over_onions(random_metric, loop_convolution, size):
    input, weight = torch.randn(2, 2, 6, 5, dtype=torch.float64), torch.randn(1, 2, size, size, dtype=torch.float64)
    geometry = {'stride': (2, 1), 'padding': (2, 3), 'dilation': (1, 2)}
    metric = random_metric(2, (6 + 4 - size) // 2 + 1, 5 + 6 - 2 * (size - 1))
    position = metric_positions(metric, onion, (size, size), **geometry)
    expected = loop_convolution(input, weight, None, None, position, metric.shape[2:])
    torch.testing.assert_close(metric_conv2d(input, metric, weight, eps=EPS, **geometry), expected)


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@pytest.mark.parametrize('with_mask', [True, False])
@pytest.mark.parametrize('function', [shifted_conv2d, deform_conv2d])
def test_shifted_and_deformable_convolution(draw, lopsided, loop_convolution, function, with_mask):
    input, offset, weight, bias, mask = draw(function.__name__, mask=with_mask)
    position = offset_positions(offset, function is shifted_conv2d, (3, 2), **lopsided)
    expected = loop_convolution(input, weight, bias, mask, position, offset.shape[2:], lopsided['groups'], GROUPS)
    torch.testing.assert_close(function(input, offset, weight, bias, mask=mask, **lopsided), expected)

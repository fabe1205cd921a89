"""Fixtures that all tests share."""

import os
import random

import numpy as np
import pytest
import torch

from metricconv_mm import geometry
from metricconv_mm.ops import BACKENDS, use_backend
from metricconv_mm.ops.call import Call


def pytest_configure():
    if 'PYTEST_XDIST_WORKER' in os.environ:  # the workers share the cores
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def random_metric():
    """A function that draws positive metrics ``[n, 5 * groups, height, width]``, from mild to strongly anisotropic and asymmetric."""

    def draw(n=2, height=4, width=3, *, groups=1, eps_w=0.1, dtype=torch.float64, norm='randers'):
        raw = 2 * torch.randn(n, groups, 7, height, width, dtype=torch.float64)
        metric = geometry.encode_metric(raw, 'spectral_scaled', 'clip_detached', eps_w=eps_w, eps=1e-15, norm=norm)
        assert geometry.is_positive(metric, norm).all()
        return metric.flatten(1, 2).to(dtype)

    return draw


@pytest.fixture
def poisoned_memory():
    """Memory that PyTorch hands out uninitialised, to Python or to C++, holds NaN: an element that is never written shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all() and torch.ones(3).new_empty(3).isnan().all() and torch.empty_like(torch.ones(3)).isnan().all()
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _runs_here(backend):
    image, metric, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 5, 1, 1), torch.ones(1, 1, 3, 3)
    support = geometry.reference_support('onion', 3, dtype=torch.float32)
    call = Call('metric_conv2d', image, metric, weight, None, None, support, 1e-6, (1, 1), (0, 0), (1, 1), 1)
    return (backend.missing() or backend.refusal(call)) is None


@pytest.fixture(params=[name for name, backend in BACKENDS.items() if _runs_here(backend)])
def backend(request):
    """Every backend that runs on the CPU of this machine, in turn."""
    with use_backend(request.param):
        yield request.param


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A backend that does not compute in the dtype of a test says so; the test is skipped."""
    try:
        return (yield)
    except Exception as error:
        if 'backend' in pyfuncitem.fixturenames and "on backend 'triton'" in str(error) and 'torch.float64' in str(error):
            pytest.skip('float64, which triton leaves to the reference')
        raise


def _bilinear(image, y, x):
    """``image[y][x]`` between the pixels; every neighbour outside the image counts as 0."""
    height, width = len(image), len(image[0])
    top, left = int(y // 1), int(x // 1)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row][column]
    return total


@pytest.fixture(scope='session')
def loop_convolution():
    """The definition as seven nested loops over numbers.

    ``convolve(input, weight, bias, mask, position, output_size, groups, parameter_groups)``, where ``position(n, group, row, column, a, b)`` is where
    tap (a, b) of output pixel (row, column) reads image n for a parameter group of channels: (y, x) in pixels.
    """

    def convolve(input, weight, bias, mask, position, output_size, groups=1, parameter_groups=1):
        (images, channels), (outputs, per_group, rows, columns) = input.shape[:2], weight.shape
        pixels, kernel = input.tolist(), weight.tolist()
        out = torch.zeros(images, outputs, *output_size, dtype=torch.float64)
        for n in range(images):
            for o in range(outputs):
                for row in range(output_size[0]):
                    for column in range(output_size[1]):
                        total = 0.0 if bias is None else bias[o].item()
                        for c in range(per_group):
                            channel = o // (outputs // groups) * per_group + c
                            group = channel // (channels // parameter_groups)
                            for a in range(rows):
                                for b in range(columns):
                                    y, x = position(n, group, row, column, a, b)
                                    sample = _bilinear(pixels[n][channel], y, x)
                                    if mask is not None:
                                        sample *= mask[n, (group * rows + a) * columns + b, row, column].item()
                                    total += kernel[o][c][a][b] * sample
                        out[n, o, row, column] = total
        return out

    return convolve

"""More elements than 32 bits can count, in memory that is there on paper until it is touched."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from metricconv_mm import use_backend
from metricconv_mm.functional import shifted_conv2d
from metricconv_mm.ops import cpu
from metricconv_mm.ops.call import Call
from metricconv_mm.ops.transforms import TRANSFORMS

needs_extension = pytest.mark.skipif(cpu.missing() is not None, reason=str(cpu.missing()))


def gcc():
    found = shutil.which('g++')
    version = subprocess.run([found, '--version'], capture_output=True, text=True).stdout if found else ''
    return found if 'Free Software Foundation' in version else None


@pytest.mark.skipif(gcc() is None, reason='no gcc, whose warning it is')
@pytest.mark.parametrize('instructions', ['generic', 'avx2', 'avx512'])
def test_no_number_of_64_bits_becomes_one_of_32_unsaid(instructions):
    """What is cast is an image's height and width, which are checked, and its channels where 32 bits hold an image."""
    source = Path(cpu.__file__).parents[1] / 'csrc' / f'kernels_{instructions}.cpp'
    command = [gcc(), '-std=c++20', '-fsyntax-only', '-Wconversion', '-Werror', '-Wno-psabi', source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def untouched(*shape, dtype=torch.bfloat16):
    """Zeros of which the operating system provides what is read or written alone."""
    words = torch.from_numpy(np.zeros(shape, {torch.bfloat16: np.int16, torch.float32: np.int32}[dtype]))
    assert words.numel() > 2**31
    return words.view(dtype)


def test_shapes_beyond_32_bits(name, operator):
    height, width, taps = 40000, 30000, 6
    channels = TRANSFORMS[name].channels(taps)
    tensors = [
        torch.empty(*shape, device='meta', requires_grad=True)
        for shape in ((2, 4, height, width), (2, channels, height, width - 1), (3, 4, 3, 2), (3,), (2, taps, height, width - 1))
    ]
    assert all(tensors[i].numel() > 2**31 for i in (0, 1, 4))
    out = operator(name, *tensors, padding=(1, 0))
    assert out.shape == (2, 3, height, width - 1)
    for tensor, gradient in zip(tensors, torch.autograd.grad(out.sum(), tensors), strict=True):
        assert gradient.shape == tensor.shape


@needs_extension
def test_images_of_too_many_pixels_are_refused_before_they_are_copied():
    image = torch.ones(1, 1, 1, 1).expand(1, 1, 60000, 60000)
    with use_backend('cpu'), pytest.raises(RuntimeError, match=r'60000 x 60000 pixels is too large: cut it into tiles of fewer than 2\^31'):
        shifted_conv2d(image, torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1, 1), stride=60000)


STEP = 4096
# (images, channels, height, width): the last pixel lies beyond 2^31 elements from the first of the batch, or of its image
SHAPES = {
    'a batch': (9, 1, 4 * STEP, 4 * STEP),
    'a large image of a few channels': (1, 4, 3 * STEP, 11 * STEP),
    'a large image of many channels': (1, 33, 2 * STEP, 2 * STEP),
}


@needs_extension
@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
def test_the_last_of_more_than_2_to_31_elements_is_read_and_written(shape):
    images, channels, height, width = shape
    dtype = torch.float32
    rows = untouched(images, height, width, channels, dtype=dtype)
    rows[-1, -1, -1, -1] = 8
    image, weight = rows.permute(0, 3, 1, 2), torch.ones(1, channels, 1, 1, dtype=dtype)
    # every window looks at its corner of the image; the last one a quarter of a pixel left of the last pixel
    stride = min(height, STEP), min(width, STEP)
    shift = torch.zeros(images, 2, height // stride[0], width // stride[1], dtype=torch.float32)
    shift[-1, :, -1, -1] = torch.tensor([stride[0] - 1, stride[1] - 1.25])
    with use_backend('cpu'):
        out = shifted_conv2d(image, shift, weight, stride=stride)
    assert out[-1, 0, -1, -1] == 6 and out.count_nonzero() == 1

    call = Call('shifted_conv2d', image, shift, weight, None, None, None, 0.0, stride, (0, 0), (1, 1), 1)
    parameter, kernel, mask, *rest = cpu._arguments(call)
    grad = torch.zeros_like(out)
    grad[-1, 0, -1, -1] = 1
    grad_rows = untouched(*rows.shape, dtype=torch.float32)
    grad_shift, grad_kernel = torch.empty_like(parameter), torch.empty_like(kernel)
    torch.ops.metricconv_mm_cpu.backward(grad.contiguous(), rows, parameter, kernel, mask, *rest, False, grad_rows, grad_shift, grad_kernel, None)
    assert grad_rows[-1, -1, -1, -1] == 0.75 and grad_rows[-1, -1, -2, -1] == 0.25
    assert grad_shift[-1, :, -1, -1].tolist() == [-6, 8]
    assert grad_kernel.flatten()[-1] == 6 and grad_kernel.count_nonzero() == 1

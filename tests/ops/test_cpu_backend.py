"""What is particular to the C++ backend; that it computes what the reference does, every other test here says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metricconv_mm import geometry, use_backend
from metricconv_mm.functional import deform_conv2d, metric_conv2d
from metricconv_mm.ops import cpu

FOLDER = Path(__file__).resolve().parent
needs_extension = pytest.mark.skipif(cpu.missing() is not None, reason=str(cpu.missing()))


@pytest.mark.skipif(shutil.which('c++') is None, reason='no C++ compiler')
def test_where_there_is_a_compiler_the_extension_is_built_and_loads():
    assert cpu.missing() is None


def test_without_the_extension_the_reason_and_remedy_are_said(monkeypatch, tmp_path):
    monkeypatch.delenv('METRICCONV_EXTENSION', raising=False)
    monkeypatch.setattr(cpu, '__file__', str(tmp_path / 'ops' / 'cpu.py'))
    assert 'not built: install a C++20 compiler' in cpu.missing.__wrapped__()
    (tmp_path / '_C.so').write_bytes(b'no library')
    assert 'does not load with torch' in cpu.missing.__wrapped__()


def problem(images, channels, size, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x, raw, weight = (
        torch.randn(*shape, generator=generator, dtype=dtype)
        for shape in ((images, channels, size, size), (images, 7, size, size), (channels, channels, 3, 3))
    )
    return [t.requires_grad_() for t in (x, geometry.encode_metric(raw), weight)]


def results(tensors):
    out = metric_conv2d(*tensors, padding=1)
    return [out, *torch.autograd.grad(out.square().sum(), tensors)]


@needs_extension
@pytest.mark.parametrize(('images', 'channels'), [(1, 40), (5, 3)], ids=['one image', 'few channels'])
def test_the_number_of_threads_does_not_change_the_sums_of_the_input_gradient(images, channels):
    tensors = problem(images, channels, 24, torch.float64)
    threads = torch.get_num_threads()
    try:
        with use_backend('cpu'):
            torch.set_num_threads(1)
            one = results(tensors)
            torch.set_num_threads(3)
            three = results(tensors)
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(one, three, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@needs_extension
@pytest.mark.parametrize(('images', 'size'), [(1, 17), (3, 8), (40, 2)], ids=['ends inside a tile', 'spans three images', 'of many images'])
def test_tiles_have_no_seams(images, size):
    tensors = problem(images, 20, size, torch.float64)
    with use_backend('reference'):
        expected = results(tensors)
    with use_backend('cpu'):
        for a, b in zip(results(tensors), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@needs_extension
def test_columns_are_never_there_all_at_once():
    """A pass needs images, a kernel's worth of sums and working space that does not grow with the image: not taps times the image."""
    code = """
import resource, torch
from metricconv_mm import functional, geometry, use_backend
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def run(size):
    x = torch.randn(1, 32, size, size, requires_grad=True)
    metric = geometry.encode_metric(torch.randn(1, 7, size, size)).requires_grad_()
    weight = torch.randn(32, 32, 3, 3, requires_grad=True)
    before = peak()
    with use_backend('cpu'):
        functional.metric_conv2d(x, metric, weight, padding=1).sum().backward()
    return (peak() - before) / x.nbytes
run(16)
print(run(640))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # output, its gradient, the gradient of the input in two layouts, the input in another, a metric's gradient
    assert float(done.stdout) < 6


@needs_extension
@pytest.mark.parametrize('capability', ['generic', 'avx2', 'avx512'])
def test_every_instruction_set_computes_what_the_reference_does(capability):
    code = """
import torch
from cases import LOPSIDED, check
from metricconv_mm import use_backend
with use_backend('cpu'):
    for case in LOPSIDED:
        check(case)
print(torch.ops.metricconv_mm_cpu.vector_bytes())
"""
    environment = {**os.environ, 'METRICCONV_CPU_CAPABILITY': capability, 'PYTHONPATH': os.pathsep.join([str(FOLDER), *sys.path])}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=environment)
    if 'this processor does not have it' in done.stderr:
        pytest.skip(f'no {capability} here')
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == {'generic': 16, 'avx2': 32, 'avx512': 64}[capability]


def test_tensors_elsewhere_are_refused_with_the_reason():
    x = torch.zeros(1, 1, 4, 4, device='meta')
    assert 'meta' in cpu.refusal(make_call(x))


def make_call(x):
    from metricconv_mm.ops.call import Call

    offset, weight = x.new_zeros(1, 18, 2, 2), x.new_zeros(1, 1, 3, 3)
    return Call('deform_conv2d', x, offset, weight, None, None, None, 0.0, (1, 1), (0, 0), (1, 1), 1).check()


@needs_extension
def test_huge_kernels_of_one_channel():
    """Denoising: hundreds of samples a pixel."""
    torch.manual_seed(0)
    x, offset, weight = torch.randn(1, 1, 20, 20), 3 * torch.randn(1, 2 * 225, 20, 20), torch.randn(1, 1, 15, 15)
    with use_backend('cpu'):
        fast = deform_conv2d(x, offset, weight, padding=7)
    with use_backend('reference'):
        torch.testing.assert_close(fast, deform_conv2d(x, offset, weight, padding=7), rtol=1e-4, atol=1e-4)

"""What is particular to the C++ backend; that it computes what the reference does, every other test here says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metricconv_mm import geometry, use_backend
from metricconv_mm.functional import metric_conv2d
from metricconv_mm.ops import cpu

from .cases import Case, Problem, check

FOLDER = Path(__file__).resolve().parent
needs_extension = pytest.mark.skipif(cpu.missing() is not None, reason=str(cpu.missing()))
measures_memory = pytest.mark.skipif('METRICCONV_EXTENSION' in os.environ, reason='another build, as one with sanitizers, has memory of its own')


@pytest.mark.skipif(shutil.which('c++') is None, reason='no C++ compiler')
def test_where_there_is_a_compiler_the_extension_is_built_and_loads():
    assert cpu.missing() is None


def test_without_the_extension_the_reason_and_remedy_are_said(monkeypatch, tmp_path):
    monkeypatch.delenv('METRICCONV_EXTENSION', raising=False)
    monkeypatch.setattr(cpu, '__file__', str(tmp_path / 'ops' / 'cpu.py'))
    assert 'not built: install a C++20 compiler' in cpu.missing.__wrapped__()
    (tmp_path / '_C.so').write_bytes(b'no library')
    assert 'does not load with torch' in cpu.missing.__wrapped__()
    monkeypatch.setenv('METRICCONV_EXTENSION', str(tmp_path / 'another.so'))
    assert 'another.so' in cpu.missing.__wrapped__()


@needs_extension
def test_an_extension_of_another_version_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(cpu, 'INTERFACE', cpu.INTERFACE + 1)
    assert 'of another version of the package: build it again' in cpu.missing.__wrapped__()


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


# what the threads share: few channels by ranges of pixels; more by blocks of channels, of whole groups, that cut through parameter groups
SHARED = {
    'few channels': {'inputs': 3, 'outputs': 5, 'size': (31, 27)},
    'one channel': {'inputs': 1, 'outputs': 1},
    'dense': {'inputs': 72, 'outputs': 9, 'parameter_groups': 3},
    'depthwise': {'inputs': 1, 'outputs': 1, 'groups': 70, 'parameter_groups': 2},
    'groups': {'inputs': 18, 'outputs': 17, 'groups': 4, 'parameter_groups': 3},
    'small groups': {'inputs': 3, 'outputs': 2, 'groups': 15},
    'one pixel': {'inputs': 40, 'outputs': 3, 'size': (1, 1)},
}


@needs_extension
@pytest.mark.parametrize('name', ['metric_conv2d', 'matsumoto_conv2d', 'deform_conv2d'])
@pytest.mark.parametrize('shared', SHARED.values(), ids=SHARED)
def test_the_number_of_threads_does_not_change_the_sums(name, shared):
    threads = torch.get_num_threads()
    try:
        for images in (1, 3):
            problem = Problem(Case(name, **{'images': images, 'size': (18, 15), **shared}))
            for count in (1, 2, 3, 7):
                torch.set_num_threads(count)
                with use_backend('cpu'):
                    out, grads = problem.run()
                if count == 1:
                    expected = [out, *grads]
                for one, other in zip([out, *grads], expected, strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    finally:
        torch.set_num_threads(threads)


@needs_extension
@measures_memory
def test_without_memory_a_call_fails_and_the_next_one_runs():
    code = """
import resource, torch
from metricconv_mm import use_backend
from metricconv_mm.functional import shifted_conv2d
def run(channels):
    with use_backend('cpu'):
        return shifted_conv2d(torch.ones(1, channels, 1, 1), torch.zeros(1, 2, 1, 1), torch.ones(channels, 1, 1, 1), groups=channels)
run(40)
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
limit = used + (300 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    run(1 << 20)
except RuntimeError as error:
    print(error)
assert run(40).sum() == 40
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'no memory for 536870912 bytes of working space' in done.stdout


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
@measures_memory
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


def test_dtypes_that_the_kernels_do_not_read_are_refused_with_the_reason():
    assert 'float8' in cpu.refusal(make_call(torch.zeros(1, 1, 4, 4).to(torch.float8_e4m3fn)))


def make_call(x):
    from metricconv_mm.ops.call import Call

    offset, weight = x.new_zeros(1, 18, 2, 2), x.new_zeros(1, 1, 3, 3)
    return Call('deform_conv2d', x, offset, weight, None, None, None, 0.0, (1, 1), (0, 0), (1, 1), 1).check()


@needs_extension
@pytest.mark.parametrize('size', [15, 121])
def test_huge_kernels_of_one_channel(size):
    """Denoising: hundreds of samples a pixel, or thousands."""
    with use_backend('cpu'):
        check(Case(images=1, size=(7, 6), kernel=(size, size), padding=(size // 2, size // 2), inputs=1, outputs=1, dtype=torch.float32))

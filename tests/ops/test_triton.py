"""Triton's kernels, run by its interpreter, against the reference. The interpreter runs programs one by one: it shows no race."""

import math

import pytest
import torch

from metricconv_mm import use_backend
from metricconv_mm.ops import BACKENDS, triton
from metricconv_mm.ops.transforms import TRANSFORMS

runs = triton.interpreted() and triton.missing() is None
pytestmark = [
    pytest.mark.skipif(not runs, reason='TRITON_INTERPRET=1 runs the kernels on the CPU (make test does)'),
    pytest.mark.filterwarnings('ignore::RuntimeWarning'),  # numpy's, of infinities
]
if runs:
    from metricconv_mm.ops.triton import launch, tiles

KINDS = tuple(TRANSFORMS)
LOPSIDED = {'stride': (2, 1), 'padding': (1, 0), 'dilation': (1, 2)}
# input channels, outputs, groups, parameter groups, kernel, image, with a mask, geometry
SHAPES = {
    'cells of one channel': (6, 4, 2, 3, (3, 2), (6, 7), True, LOPSIDED),
    'depthwise': (4, 8, 4, 2, (2, 2), (5, 5), True, LOPSIDED),
    'two blocks of channels': (40, 5, 1, 1, (2, 2), (4, 5), False, {}),
    'two blocks of outputs': (16, 130, 1, 1, (1, 2), (4, 5), True, {}),
    'groups in a group of parameters': (32, 8, 4, 2, (2, 1), (5, 4), True, {}),
    'groups of parameters in a group': (32, 8, 1, 2, (2, 1), (5, 4), False, {}),
    'two blocks of depthwise channels': (70, 70, 70, 1, (1, 2), (4, 3), False, {}),
    'one channel to many': (1, 7, 1, 1, (3, 3), (6, 5), True, {}),
    'odd': (5, 3, 1, 1, (3, 3), (6, 5), False, LOPSIDED),
    'one channel and a large kernel': (1, 1, 1, 1, (7, 5), (7, 6), True, {}),
}
CASES = [(kind, shape) for i, shape in enumerate(SHAPES) for kind in (KINDS if i < 2 else [KINDS[i % 3]])] + [
    ('matsumoto_conv2d', 'two blocks of channels')
]


@pytest.fixture(autouse=True)
def arguments_are_those_of_the_kernel(monkeypatch):
    """The compiler is strict about their names, the interpreter is not."""
    launch_it = launch._Problem.launch

    def checked(self, kernel, tile, programs, arguments, zeroed=()):
        assert set(kernel.arg_names) - set(tile.blocks) == set(arguments) and set(zeroed) <= set(arguments)
        launch_it(self, kernel, tile, programs, arguments, zeroed)

    monkeypatch.setattr(launch._Problem, 'launch', checked)


@pytest.fixture
def problem(random_metric):
    """A function (kind, shape, images) -> (tensors in float64, geometry)."""

    def draw(kind, shape, n=2):
        channels, outputs, groups, parameter_groups, kernel, image, masked, geometry = SHAPES[shape]
        full = {'stride': (1, 1), 'padding': (0, 0), 'dilation': (1, 1), 'groups': groups, **geometry}
        axes = zip(image, kernel, full['stride'], full['padding'], full['dilation'], strict=True)
        size = [(s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in axes]
        taps = kernel[0] * kernel[1]
        if TRANSFORMS[kind].norm:
            parameter = random_metric(n, *size, groups=parameter_groups, norm=TRANSFORMS[kind].norm)
        else:
            parameter = 1.5 * torch.randn(n, parameter_groups * 2 * (taps if kind == 'deform_conv2d' else 1), *size)
        mask = torch.randn(n, parameter_groups * taps, *size) if masked else None
        drawn = [torch.randn(n, channels, *image), parameter, torch.randn(outputs, channels // groups, *kernel), torch.randn(outputs), mask]
        # what bfloat16 can hold, so that every dtype is given the same numbers
        return [None if t is None else t.bfloat16().double() for t in drawn], full

    return draw


def results(operator, kind, tensors, geometry, backend, dtype, grad=None):
    """Output and gradients."""
    leaves = [None if t is None else t.to(dtype).requires_grad_() for t in tensors]
    with use_backend(backend):
        out = operator(kind, *leaves, **geometry)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(out.shape, generator=generator).bfloat16() if grad is None else grad
    return [out, *torch.autograd.grad(out, [t for t in leaves if t is not None], grad.to(dtype))]


def assert_as_good_as_the_reference(actual, plain, exact, factor=3.0):
    for one, other, best in zip(actual, plain, exact, strict=True):
        scale = best.norm() + 1e-30
        assert one.dtype == other.dtype and one.shape == other.shape
        assert (one.double() - best).norm() / scale <= factor * (other.double() - best).norm() / scale + 1e-6


@pytest.mark.parametrize(('kind', 'shape'), CASES)
def test_values_and_gradients(operator, problem, kind, shape):
    tensors, geometry = problem(kind, shape)
    actual = results(operator, kind, tensors, geometry, 'triton', torch.float32)
    plain, exact = (results(operator, kind, tensors, geometry, 'reference', dtype) for dtype in (torch.float32, torch.float64))
    assert_as_good_as_the_reference(actual, plain, exact)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    'kind, shape', [('metric_conv2d', 'groups of parameters in a group'), ('deform_conv2d', 'depthwise'), ('shifted_conv2d', 'odd')]
)
def test_narrow_dtypes(operator, problem, kind, shape, dtype):
    tensors, geometry = problem(kind, shape)
    actual = results(operator, kind, tensors, geometry, 'triton', dtype)
    plain, exact = (
        results(operator, kind, tensors, geometry, 'reference', dtype),
        results(operator, kind, tensors, geometry, 'reference', torch.float64),
    )
    assert_as_good_as_the_reference(actual, plain, exact, 2.0)


@pytest.mark.usefixtures('poisoned_memory')
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('shape', ['cells of one channel', 'depthwise'])
def test_deterministic_algorithms_sum_integers(operator, problem, monkeypatch, kind, shape):
    """Additions of integers can come in any order; that there are races to survive, only a GPU shows."""
    used = []
    monkeypatch.setattr(launch, '_fixed_point_scale', lambda *a, scale=launch._fixed_point_scale: used.append(1) or scale(*a))
    tensors, geometry = problem(kind, shape)
    actual = results(operator, kind, tensors, geometry, 'triton', torch.float32)
    assert used
    plain, exact = (results(operator, kind, tensors, geometry, 'reference', dtype) for dtype in (torch.float32, torch.float64))
    assert_as_good_as_the_reference(actual, plain, exact)


@pytest.mark.parametrize('deterministic', [False, True])
@pytest.mark.parametrize('value', [math.nan, math.inf, 1e30])
@pytest.mark.parametrize('kind', KINDS)
def test_bad_gradients_spoil_what_the_reference_spoils(operator, problem, request, kind, value, deterministic):
    if deterministic:
        request.getfixturevalue('poisoned_memory')
    tensors, geometry = problem(kind, 'cells of one channel')
    grad = torch.randn(2, 4, 3, 5)
    grad[1, 2, 1, 3] = value
    actual, expected = (results(operator, kind, tensors, geometry, backend, torch.float32, grad) for backend in ('triton', 'reference'))
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one.isfinite(), other.isfinite())
    # the gradient of the image that has nothing to do with it
    torch.testing.assert_close(actual[1][0], expected[1][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_wild_positions_end_as_in_the_reference(operator, problem, kind):
    tensors, geometry = problem(kind, 'cells of one channel')
    wild = torch.tensor([math.nan, math.inf, -math.inf, 1e30, -1e30, 3e9, 2.0**31], dtype=torch.float64)
    parameter = tensors[1].flatten()
    chosen = torch.randperm(parameter.numel())[: parameter.numel() // 8]
    parameter[chosen] = wild[torch.randint(len(wild), chosen.shape)]
    actual, expected = (results(operator, kind, tensors, geometry, backend, torch.float32) for backend in ('triton', 'reference'))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_layouts_and_neighbouring_memory(operator, problem, kind):
    """Slices of larger tensors of NaN, which reading past an end would show, and channels_last."""
    tensors, geometry = problem(kind, 'cells of one channel')
    expected = results(operator, kind, tensors, geometry, 'triton', torch.float32)

    def inside_nan(tensor):
        around = torch.full([tensor.numel() + 200], math.nan, dtype=torch.float32)
        around[100:-100] = tensor.flatten()
        return around[100:-100].view(tensor.shape)

    sliced = [inside_nan(t) for t in tensors]
    torch.testing.assert_close(results(operator, kind, sliced, geometry, 'triton', torch.float32), expected, rtol=0, atol=0)
    last = [t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors]
    actual = results(operator, kind, last, geometry, 'triton', torch.float32)
    assert actual[0].is_contiguous(memory_format=torch.channels_last) and actual[1].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize('kind', KINDS)
def test_empty_batches(operator, problem, kind):
    tensors, geometry = problem(kind, 'cells of one channel', 0)
    out, *grads = results(operator, kind, tensors, geometry, 'triton', torch.float32)
    assert out.shape == (0, 4, 3, 5)
    assert all(not g.any() for g in grads) and [g.shape for g in grads] == [t.shape for t in tensors]


def test_more_elements_than_32_bits_count(operator, problem, monkeypatch):
    """With 64-bit offsets from the first element on."""
    for kind, shape in (('metric_conv2d', 'depthwise'), ('deform_conv2d', 'cells of one channel')):
        tensors, geometry = problem(kind, shape)
        expected = results(operator, kind, tensors, geometry, 'triton', torch.float32)
        with monkeypatch.context() as patch:
            patch.setattr(launch, 'COUNTABLE', 0)
            torch.testing.assert_close(results(operator, kind, tensors, geometry, 'triton', torch.float32), expected, rtol=0, atol=0)


def test_columns_are_never_in_memory(operator):
    tensors = [torch.randn(4, 8, 8, 8), torch.randn(4, 2, 8, 8), torch.randn(8, 8, 5, 5), None, None]
    with torch.profiler.profile(profile_memory=True) as profile:
        results(operator, 'shifted_conv2d', tensors, {'padding': (2, 2)}, 'triton', torch.float32)
    largest = max(event.cpu_memory_usage for event in profile.events() if event.name.startswith('aten::empty'))
    assert largest <= 25 * tensors[0].numel() * 4 / 4  # the samples in float32 are four times that


def test_tf32_as_in_torchs_convolutions(monkeypatch):
    assert launch._precision(torch.bfloat16) == 'ieee'
    before = torch.backends.cudnn.conv.fp32_precision
    try:
        for setting, expected in (('tf32', 'tf32'), ('ieee', 'ieee')):
            torch.backends.cudnn.conv.fp32_precision = setting
            assert launch._precision(torch.float32) == expected
    finally:
        torch.backends.cudnn.conv.fp32_precision = before


def test_autotuning_is_asked_for_and_changes_no_result(operator, problem, monkeypatch):
    from triton.runtime.autotuner import Autotuner

    tensors, geometry = problem('shifted_conv2d', 'odd')
    expected = results(operator, 'shifted_conv2d', tensors, geometry, 'triton', torch.float32)
    runs = []
    monkeypatch.setattr(Autotuner, 'do_bench', property(lambda self: lambda call, quantiles: (call(), runs.append(1), [-len(runs)] * 3)[-1]))
    monkeypatch.setattr(tiles, 'candidates', lambda tile, all=tiles.candidates: [all(tile)[0], all(tile)[-1]])
    monkeypatch.setenv('METRICCONV_AUTOTUNE', '1')
    launch._tuned.cache_clear()
    actual = results(operator, 'shifted_conv2d', tensors, geometry, 'triton', torch.float32)
    assert len(runs) == 6  # three kernels, two candidates each
    torch.testing.assert_close(actual, expected)
    results(operator, 'shifted_conv2d', tensors, geometry, 'triton', torch.float32)
    assert len(runs) == 6


def test_float64_is_refused_and_left_to_another(operator, problem):
    tensors, geometry = problem('shifted_conv2d', 'odd')
    with use_backend('triton'), pytest.raises(RuntimeError, match=r'triton: it computes in float32, and input is torch\.float64'):
        operator('shifted_conv2d', *tensors, **geometry)
    assert operator('shifted_conv2d', *tensors, **geometry).dtype == torch.float64
    assert next(iter(BACKENDS)) == 'triton'

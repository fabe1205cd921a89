"""The operators on a GPU, against the reference on the CPU: ``pytest -m cuda``, and under compute-sanitizer (docs/backends.md)."""

import math
from functools import partial

import pytest
import torch

from metricconv_mm import use_backend
from metricconv_mm.functional import deform_conv2d, metric_conv2d, shifted_conv2d
from metricconv_mm.ops import triton
from metricconv_mm.ops.transforms import OPERATORS, TRANSFORMS

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available() or triton.interpreted(), reason='no CUDA device'),
]
FUNCTIONS = {'shifted_conv2d': shifted_conv2d, 'deform_conv2d': deform_conv2d}
FUNCTIONS |= {name: partial(metric_conv2d, norm=norm) for norm, name in OPERATORS.items()}
# images, input channels, outputs, groups, parameter groups, kernel size, side of the image
SHAPES = {
    'dense': (4, 64, 96, 1, 1, 3, 28),
    'wide': (2, 320, 300, 1, 2, 3, 14),
    'first layer': (4, 3, 64, 1, 1, 3, 33),
    'groups': (3, 64, 64, 4, 2, 3, 15),
    'small groups': (2, 24, 12, 6, 3, 3, 15),
    'depthwise': (3, 96, 192, 96, 2, 5, 17),
    'one channel': (2, 1, 1, 1, 1, 15, 40),
    'one channel to many': (2, 1, 24, 1, 1, 5, 20),
    'few pixels': (1, 16, 16, 1, 1, 3, 2),
}
dtypes = pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
shapes = pytest.mark.parametrize('shape', SHAPES)


@pytest.fixture
def exact_products():
    """float32 without TF32."""
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = 'ieee'
    yield
    torch.backends.cudnn.conv.fp32_precision = before


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def problem(random_metric):
    def draw(name, shape, masked=True):
        n, channels, outputs, groups, parameter_groups, size, side = SHAPES[shape]
        if TRANSFORMS[name].norm:
            parameter = random_metric(n, side, side, groups=parameter_groups, norm=TRANSFORMS[name].norm)
        else:
            parameter = 2 * torch.randn(n, parameter_groups * 2 * (size * size if name == 'deform_conv2d' else 1), side, side)
        mask = torch.rand(n, parameter_groups * size * size, side, side) if masked else None
        drawn = [torch.randn(n, channels, side, side), parameter, torch.randn(outputs, channels // groups, size, size), torch.randn(outputs), mask]
        return [None if t is None else t.bfloat16().double() for t in drawn], {'padding': size // 2, 'groups': groups}

    return draw


def leaves(tensors, dtype, device='cuda'):
    return [None if t is None else t.to(device, dtype).requires_grad_() for t in tensors]


def results(name, tensors, geometry):
    input, parameter, weight, bias, mask = tensors
    out = FUNCTIONS[name](input, parameter, weight, bias, mask=mask, **geometry)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    return [out, *torch.autograd.grad(out, [t for t in tensors if t is not None], grad.to(out))]


def error(actual, exact, of_parameter):
    difference = (actual.cpu().double() - exact).abs().flatten()
    if of_parameter:
        # at a whole pixel the derivative by the position jumps, and rounding chooses the side
        difference = difference.sort().values[: -math.ceil(difference.numel() / 1000)]
    return difference.norm() / exact.norm().clamp_min(1e-30)


@pytest.mark.usefixtures('exact_products')
@shapes
@dtypes
def test_values_and_gradients(name, problem, shape, dtype):
    tensors, geometry = problem(name, shape)
    actual = results(name, leaves(tensors, dtype), geometry)
    with use_backend('reference'):
        plain, exact = (results(name, leaves(tensors, d, 'cpu'), geometry) for d in (dtype, torch.float64))
    for i, (one, other, best) in enumerate(zip(actual, plain, exact, strict=True)):
        assert one.is_cuda and one.dtype == other.dtype
        assert error(one, best, i == 2) <= 3 * error(other, best, i == 2) + 1e-6


@shapes
def test_tf32_is_as_precise_as_it_can_be(problem, shape):
    tensors, geometry = problem('deform_conv2d', shape)
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = 'tf32'
    try:
        actual = results('deform_conv2d', leaves(tensors, torch.float32), geometry)
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    with use_backend('reference'):
        exact = results('deform_conv2d', leaves(tensors, torch.float64, 'cpu'), geometry)
    for i, (one, best) in enumerate(zip(actual, exact, strict=True)):
        assert error(one, best, i == 2) <= 2e-3


def test_auto_chooses_triton_for_float32_and_the_reference_for_float64(name, problem, monkeypatch):
    from metricconv_mm.ops.triton import launch

    ran, forward = [], launch.forward
    monkeypatch.setattr(launch, 'forward', lambda call: ran.append(call.input.dtype) or forward(call))
    tensors, geometry = problem(name, 'small groups')
    results(name, leaves(tensors, torch.float32), geometry)
    with use_backend('reference'):
        expected = results(name, leaves(tensors, torch.float64), geometry)
    torch.testing.assert_close(results(name, leaves(tensors, torch.float64), geometry), expected)
    assert ran == [torch.float32]


@pytest.mark.usefixtures('deterministic')
@shapes
def test_deterministic_algorithms_give_the_same_bits_again(name, problem, shape):
    tensors, geometry = problem(name, shape)
    first = results(name, leaves(tensors, torch.float32), geometry)
    for _ in range(3):
        torch.testing.assert_close(results(name, leaves(tensors, torch.float32), geometry), first, rtol=0, atol=0)


@pytest.mark.usefixtures('exact_products')
def test_deterministic_sums_are_right(name, problem, request):
    tensors, geometry = problem(name, 'dense')
    expected = results(name, leaves(tensors, torch.float32), geometry)
    request.getfixturevalue('deterministic')
    torch.testing.assert_close(results(name, leaves(tensors, torch.float32), geometry), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('masked', [True, False])
def test_compiled_is_eager(name, problem, masked):
    tensors, geometry = problem(name, 'dense', masked)

    def step(input, parameter, weight, bias, mask):
        return FUNCTIONS[name](input * 2, parameter, weight, bias, mask=mask, **geometry).relu()

    torch.compiler.reset()
    inputs = leaves(tensors, torch.float32)
    actual, expected = torch.compile(step, fullgraph=True)(*inputs), step(*inputs)
    torch.testing.assert_close(actual, expected)
    wanted = [t for t in inputs if t is not None]
    one, other = (torch.autograd.grad(out.square().mean(), wanted) for out in (actual, expected))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_cuda_graphs_replay_forward_and_backward(name, problem):
    tensors, geometry = problem(name, 'dense')
    static = leaves(tensors, torch.float32)
    grad = torch.randn(4, 96, 28, 28, device='cuda')

    def step():
        out = FUNCTIONS[name](*static[:4], mask=static[4], **geometry)
        return [out, *torch.autograd.grad(out, static, grad)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        static[0].copy_(torch.randn_like(static[0]))
    graph.replay()
    torch.testing.assert_close(captured, step(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_autocast(name, problem, dtype):
    tensors, geometry = problem(name, 'dense')
    singles = leaves(tensors, torch.float32)
    with torch.autocast('cuda', dtype):
        out = FUNCTIONS[name](*singles[:4], mask=singles[4], **geometry)
    by_hand = [t.to(torch.float32 if i == 1 else dtype) for i, t in enumerate(singles)]
    assert out.dtype == dtype
    torch.testing.assert_close(out, FUNCTIONS[name](*by_hand[:4], mask=by_hand[4], **geometry), rtol=0, atol=0)
    out.float().sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in singles)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, 1e30, -3e9, 2.0**31])
def test_no_position_reads_out_of_bounds(name, problem, value):
    """compute-sanitizer memcheck sees what this test cannot."""
    tensors, geometry = problem(name, 'small groups')
    tensors[1].flatten()[::7] = value
    actual = results(name, leaves(tensors, torch.float32), geometry)
    with use_backend('reference'):
        expected = results(name, leaves(tensors, torch.float32, 'cpu'), geometry)
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one.cpu().isfinite(), other.isfinite())


@pytest.mark.parametrize('memory_format', [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_kept(name, problem, memory_format):
    tensors, geometry = problem(name, 'dense')
    inputs = leaves(tensors, torch.float32)
    inputs[0] = inputs[0].detach().to(memory_format=memory_format).requires_grad_()
    out, grad, *_ = results(name, inputs, geometry)
    assert out.is_contiguous(memory_format=memory_format) and grad.is_contiguous(memory_format=memory_format)


def test_backward_needs_no_more_memory_than_images(problem):
    tensors, geometry = problem('metric_conv2d', 'wide')
    inputs = leaves(tensors, torch.float32)
    results('metric_conv2d', inputs, geometry)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    results('metric_conv2d', inputs, geometry)
    arguments = sum(t.numel() for t in inputs) * 4
    assert torch.cuda.max_memory_allocated() - before <= 6 * arguments


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='one GPU')
def test_another_device_than_the_current(name, problem):
    tensors, geometry = problem(name, 'small groups')
    assert torch.cuda.current_device() == 0
    first, second = (results(name, leaves(tensors, torch.float32, f'cuda:{i}'), geometry) for i in (0, 1))
    torch.testing.assert_close([t.cpu() for t in second], [t.cpu() for t in first], rtol=1e-4, atol=1e-4)

"""Narrow dtypes and autocast."""

import pytest
import torch

from metricconv_mm import use_backend
from metricconv_mm.ops.transforms import TRANSFORMS

GEOMETRY = {'padding': (1, 0)}
IMAGE, KERNEL = (7, 6), (3, 2)
narrow = pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)


@pytest.fixture
def problem(name, operator, random_metric):
    """(function of (input, parameter, weight, bias, mask), those tensors in float64, exactly representable in bfloat16)."""
    n, size, taps = 2, (7, 5), 6
    if TRANSFORMS[name].norm:
        parameter = random_metric(n, *size, eps_w=0.5, norm=TRANSFORMS[name].norm)
    else:
        parameter = torch.randn(n, 2 * (taps if name == 'deform_conv2d' else 1), *size, dtype=torch.float64)
    drawn = [torch.randn(n, 8, *IMAGE), parameter, torch.randn(3, 8, *KERNEL) / 8, torch.randn(3), torch.rand(n, taps, *size)]
    return lambda *tensors: operator(name, *tensors, **GEOMETRY), [t.to(torch.bfloat16).double() for t in drawn]


def leaves(tensors, dtype, parameter_dtype=None):
    return [t.to(parameter_dtype if i == 1 and parameter_dtype else dtype).requires_grad_() for i, t in enumerate(tensors)]


def error(actual, exact):
    return (actual.double() - exact).norm() / exact.norm()


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@narrow
@pytest.mark.parametrize('precise_parameter', [True, False])
def test_errors_are_those_of_rounding_the_result(problem, dtype, precise_parameter):
    function, tensors = problem
    inputs = leaves(tensors, dtype, torch.float32 if precise_parameter else None)
    out = function(*inputs)
    grad = torch.randn(out.shape).to(torch.bfloat16).double()
    exact_inputs = leaves(tensors, torch.float64)
    with use_backend('reference'):
        exact = function(*exact_inputs)
    exact_grads = torch.autograd.grad(exact, exact_inputs, grad)
    assert out.dtype == dtype
    actual = [out, *torch.autograd.grad(out, inputs, grad.to(dtype))]
    for i, (one, other) in enumerate(zip(actual, [exact, *exact_grads], strict=True)):
        expected_dtype = inputs[i - 1].dtype if i else dtype
        assert one.dtype == expected_dtype
        # sums are accumulated in float32 or better: what remains is rounding the result, or float32's own sums of some hundred terms
        rounding = error(other.to(expected_dtype), other)
        assert error(one, other) <= max(2 * rounding, 100 * torch.finfo(torch.float32).eps)


@pytest.mark.usefixtures('backend')
def test_autocast_computes_in_bfloat16_with_float32_parameters(problem):
    function, tensors = problem
    singles = leaves(tensors, torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        out = function(*singles)
    assert out.dtype == torch.bfloat16
    by_hand = leaves(tensors, torch.bfloat16, torch.float32)
    torch.testing.assert_close(out, function(*by_hand), rtol=0, atol=0)
    out.sum().backward()
    assert all(t.grad.dtype == torch.float32 and t.grad.any() for t in singles)


def test_autocast_leaves_float64_alone(problem):
    function, tensors = problem
    with torch.autocast('cpu', torch.bfloat16):
        out = function(*tensors)
    assert out.dtype == torch.float64
    torch.testing.assert_close(out, function(*tensors), rtol=0, atol=0)


@pytest.mark.parametrize('name', ['shifted_conv2d', 'deform_conv2d'])
def test_autocast_keeps_positions_precise(name, operator):
    last = 299
    image = torch.zeros(1, 1, 1, last + 1)
    image[..., last] = 1
    # bfloat16 has neither 200.75 nor 298.75: rounded, either would read 0 or 1
    parameter = torch.tensor([0, 200.75]).view(1, 2, 1, 1).expand(1, 2, 1, last + 1)
    with torch.autocast('cpu', torch.bfloat16):
        out = operator(name, image, parameter, torch.ones(1, 1, 1, 1))
    assert out[0, 0, 0, 98].item() == 0.75


def test_autocast_inside_compile(problem):
    function, tensors = problem
    singles = leaves(tensors, torch.float32)

    def cast(*arguments):
        with torch.autocast('cpu', torch.bfloat16):
            return function(*arguments)

    torch.compiler.reset()
    out = torch.compile(cast, backend='aot_eager', fullgraph=True)(*singles)
    expected = cast(*singles)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    actual_grads, expected_grads = (torch.autograd.grad(o.float().square().sum(), singles) for o in (out, expected))
    torch.testing.assert_close(actual_grads, expected_grads, rtol=1e-2, atol=1e-2)

"""First and second derivatives."""

import pytest
import torch

from metricconv_mm.ops.transforms import TRANSFORMS

WHICH = ('input', 'parameter', 'weight', 'bias', 'mask')


@pytest.fixture
def small(random_metric):
    """Tensors so small that finite differences are quick: images of 4 x 3, kernels of 2 x 1, two groups of parameters."""

    def draw(name, mask=True):
        channels, norm = TRANSFORMS[name].channels(2), TRANSFORMS[name].norm
        parameter = random_metric(1, 2, 3, groups=2, norm=norm) if norm else torch.randn(1, 2 * channels, 2, 3, dtype=torch.float64)
        tensors = [
            torch.randn(1, 2, 4, 3, dtype=torch.float64),
            parameter,
            torch.randn(2, 1, 2, 1, dtype=torch.float64),
            torch.randn(2, dtype=torch.float64),
            torch.randn(1, 4, 2, 3, dtype=torch.float64) if mask else None,
        ]
        return [None if t is None else t.requires_grad_() for t in tensors]

    return draw


SMALL_GEOMETRY = {'stride': (2, 1), 'padding': (1, 0), 'dilation': (2, 1), 'groups': 2}


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@pytest.mark.parametrize('with_mask', [True, False])
def test_gradients_are_the_slopes(name, operator, small, with_mask):
    input, parameter, weight, bias, *mask = [t for t in small(name, with_mask) if t is not None]
    assert torch.autograd.gradcheck(lambda *t: operator(name, *t, **SMALL_GEOMETRY), (input, parameter, weight, bias, *mask))


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('with_mask', [True, False])
def test_second_derivatives_are_the_slopes_of_gradients(name, operator, small, with_mask):
    input, parameter, weight, bias, *mask = [t for t in small(name, with_mask) if t is not None]
    assert torch.autograd.gradgradcheck(lambda *t: operator(name, *t, **SMALL_GEOMETRY), (input, parameter, weight, bias, *mask))


@pytest.mark.parametrize('only', WHICH)
def test_second_derivatives_of_one_tensor_alone(name, operator, small, only):
    tensors = small(name)
    index = WHICH.index(only)

    def function(tensor):
        arguments = [t.detach() for t in tensors]
        arguments[index] = tensor
        return operator(name, *arguments, **SMALL_GEOMETRY).square()  # the operator is linear in some, its square is not

    assert torch.autograd.gradgradcheck(function, tensors[index])


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('only', WHICH)
def test_only_what_asks_gets_a_gradient(name, operator, draw, lopsided, only):
    tensors = draw(name, requires_grad=True)
    expected = torch.autograd.grad(operator(name, *tensors, **lopsided).sum(), tensors)[WHICH.index(only)]
    for which, tensor in zip(WHICH, tensors, strict=True):
        tensor.requires_grad_(which == only)
    operator(name, *tensors, **lopsided).sum().backward()
    for which, tensor in zip(WHICH, tensors, strict=True):
        if which == only:
            torch.testing.assert_close(tensor.grad, expected)
        else:
            assert tensor.grad is None


def test_without_gradients_nothing_is_recorded(name, operator, draw, lopsided):
    tensors = draw(name, requires_grad=True)
    with torch.no_grad():
        assert not operator(name, *tensors, **lopsided).requires_grad
    with torch.inference_mode():
        assert operator(name, *tensors, **lopsided).is_inference()


def test_nothing_as_large_as_the_samples_is_kept_for_backward(name, operator, draw, lopsided):
    tensors = draw(name, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        operator(name, *tensors, **lopsided)
    arguments = {t.data_ptr() for t in tensors}
    assert all(t.data_ptr() in arguments or t.shape == (6, 3) for t in kept)  # [6, 3] is the reference support


@pytest.mark.usefixtures('backend')
def test_gradients_do_not_care_how_the_incoming_one_lies_in_memory(name, operator, draw, lopsided):
    tensors = draw(name, requires_grad=True)
    out = operator(name, *tensors, **lopsided)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(out, tensors, grad, retain_graph=True)
    transposed = grad.transpose(2, 3).contiguous().transpose(2, 3)
    for layout in (transposed, grad.to(memory_format=torch.channels_last)):
        for one, other in zip(torch.autograd.grad(out, tensors, layout, retain_graph=True), expected, strict=True):
            torch.testing.assert_close(one, other)
    one = torch.autograd.grad(out, tensors, torch.ones(()).double().expand_as(out), retain_graph=True)
    for grad_one, grad_sum in zip(one, torch.autograd.grad(out.sum(), tensors), strict=True):
        torch.testing.assert_close(grad_one, grad_sum)

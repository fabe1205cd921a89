"""Any strides in, and the input's memory format out."""

import pytest
import torch


@pytest.mark.usefixtures('backend', 'poisoned_memory')
def test_strides_do_not_matter(name, operator, draw, lopsided):
    tensors = draw(name)
    expected = operator(name, *tensors, **lopsided)
    backwards = [t.transpose(0, -1).contiguous().transpose(0, -1) for t in tensors]
    assert not any(t.is_contiguous() for t in backwards if t.dim() == 4)
    torch.testing.assert_close(operator(name, *backwards, **lopsided), expected)
    sliced = [torch.stack([t, torch.full_like(t, float('nan'))], -1)[..., 0] for t in tensors]
    torch.testing.assert_close(operator(name, *sliced, **lopsided), expected)


@pytest.mark.usefixtures('backend')
def test_inputs_expanded_over_the_batch(name, operator, draw, lopsided):
    input, parameter, weight, bias, mask = draw(name, 1)
    expected = operator(name, input, parameter, weight, bias, mask, **lopsided).expand(3, -1, -1, -1)
    expanded = (t.expand(3, -1, -1, -1) for t in (input, parameter, mask))
    input, parameter, mask = expanded
    torch.testing.assert_close(operator(name, input, parameter, weight, bias, mask, **lopsided), expected)


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@pytest.mark.parametrize('memory_format', [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_kept_by_output_and_gradient(name, operator, draw, lopsided, memory_format):
    input, parameter, weight, bias, mask = draw(name, requires_grad=True)
    expected = operator(name, input, parameter, weight, bias, mask, **lopsided)
    image = input.detach().to(memory_format=memory_format).requires_grad_()
    out = operator(name, image, parameter.to(memory_format=memory_format), weight.to(memory_format=memory_format), bias, mask, **lopsided)
    assert out.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(expected)
    image_grad = torch.autograd.grad(out, image, grad)[0]
    assert image_grad.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(image_grad, torch.autograd.grad(expected, input, grad)[0])


def test_arguments_are_not_written_to(name, operator, draw, lopsided):
    tensors = draw(name, requires_grad=True)
    before = [t.detach().clone() for t in tensors]
    operator(name, *tensors, **lopsided).sum().backward()
    assert all(torch.equal(t, b) for t, b in zip(tensors, before, strict=True))

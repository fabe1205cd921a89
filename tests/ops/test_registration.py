"""What torch.library, torch.compile and meta tensors see of the operators."""

from functools import partial

import pytest
import torch
from torch._subclasses import FakeTensorMode

from metricconv_mm.functional import deform_conv2d, metric_conv2d, shifted_conv2d
from metricconv_mm.geometry import reference_support
from metricconv_mm.ops.transforms import OPERATORS, TRANSFORMS

FUNCTIONS = {'shifted_conv2d': shifted_conv2d, 'deform_conv2d': deform_conv2d}
FUNCTIONS |= {name: partial(metric_conv2d, norm=norm) for norm, name in OPERATORS.items()}


def arguments(name, tensors, geometry):
    """Those of the operator in the order of its schema."""
    extra = (reference_support('polar', tuple(tensors[2].shape[2:])), 1e-6) if TRANSFORMS[name].norm else ()
    return (*tensors, *extra, *(geometry[key] for key in ('stride', 'padding', 'dilation', 'groups')))


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('with_mask', [True, False])
def test_opcheck(name, draw, lopsided, with_mask):
    operator = getattr(torch.ops.metricconv_mm, name).default
    tensors = draw(name, mask=with_mask, requires_grad=True)
    torch.library.opcheck(operator, arguments(name, tensors, lopsided))


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('needs', [(True, True, True, True), (True, False, False, False), (False, True, True, False)])
def test_opcheck_of_the_backward(name, draw, lopsided, needs):
    operator = getattr(torch.ops.metricconv_mm, f'{name}_backward').default
    input, parameter, weight, _, mask = draw(name, requires_grad=True)
    out = getattr(torch.ops.metricconv_mm, name)(*arguments(name, (input, parameter, weight, None, mask), lopsided))
    rest = arguments(name, (input, parameter, weight, mask), lopsided)
    # its own derivative is compared in test_gradients.py: tracing that with symbolic shapes, as AOT's check does, takes a minute
    checks = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    torch.library.opcheck(operator, (torch.randn_like(out).requires_grad_(), *rest, needs), test_utils=checks)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('memory_format', [torch.channels_last, torch.contiguous_format])
def test_opcheck_without_gradients_in_any_memory_format(name, draw, lopsided, memory_format):
    tensors = [t.to(memory_format=memory_format) if t.dim() == 4 else t for t in draw(name, dtype=torch.float32)]
    torch.library.opcheck(getattr(torch.ops.metricconv_mm, name).default, arguments(name, tensors, lopsided), test_utils='test_faketensor')


def step(name, geometry):
    """A function (tensors) -> output, with something to fuse before and after the operator."""

    def run(input, parameter, weight, bias, mask):
        support = {'support': 'grid'} if TRANSFORMS[name].norm else {}
        return FUNCTIONS[name](input * 2, parameter, weight, bias, mask=mask.sigmoid(), **support, **geometry).relu()

    return run


def assert_compiled_is_eager(function, tensors, **options):
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, **options)
    out, expected = compiled(*tensors), function(*tensors)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    torch.testing.assert_close(torch.autograd.grad(out, tensors, grad), torch.autograd.grad(expected, tensors, grad))
    return compiled


def test_compiled_is_eager(name, draw, lopsided):
    assert_compiled_is_eager(step(name, lopsided), draw(name, requires_grad=True), backend='aot_eager')


def test_one_compilation_serves_every_batch_size(name, draw, lopsided):
    # no other size is 11: a size seen twice is compiled as one
    compiled = assert_compiled_is_eager(step(name, lopsided), draw(name, 11, requires_grad=True), backend='aot_eager', dynamic=True)
    with torch.compiler.set_stance('fail_on_recompile'):
        for n in (13, 9):
            tensors = draw(name, n, requires_grad=True)
            torch.testing.assert_close(compiled(*tensors), step(name, lopsided)(*tensors))


def test_compiled_by_inductor_is_eager(draw, lopsided):
    tensors = draw('metric_conv2d', dtype=torch.float32, requires_grad=True)
    assert_compiled_is_eager(step('metric_conv2d', lopsided), tensors)


@pytest.mark.parametrize('memory_format', [torch.channels_last, torch.contiguous_format])
def test_meta_tensors_say_shape_dtype_and_layout(name, operator, draw, lopsided, memory_format):
    input, *rest = draw(name, dtype=torch.float32)
    tensors = [input.to(memory_format=memory_format), *rest]
    real, meta = (operator(name, *(t.to(device) for t in tensors), **lopsided) for device in ('cpu', 'meta'))
    assert meta.is_meta
    assert (meta.shape, meta.dtype, meta.stride()) == (real.shape, real.dtype, real.stride())


def test_meta_tensors_have_meta_gradients(name, operator, draw, lopsided):
    tensors = [t.detach().to('meta').requires_grad_() for t in draw(name)]
    operator(name, *tensors, **lopsided).sum().backward()
    assert all(t.grad.is_meta and t.grad.shape == t.shape for t in tensors)


def test_fake_tensors_leave_nothing_behind():
    size = (5, 6)  # which no other test asks for
    with FakeTensorMode():
        fake = metric_conv2d(torch.ones(1, 1, 6, 6), torch.ones(1, 5, 2, 1), torch.ones(1, 1, *size), support='polar')
        assert fake.shape == (1, 1, 2, 1)
    real = metric_conv2d(torch.ones(1, 1, 6, 6), torch.ones(1, 5, 2, 1), torch.ones(1, 1, *size), support='polar')
    assert type(real) is torch.Tensor and real.isfinite().all()


def test_export_keeps_the_operator_whole(name, draw, lopsided):
    class Module(torch.nn.Module):
        def forward(self, *tensors):
            return step(name, lopsided)(*tensors)

    tensors = tuple(draw(name))
    program = torch.export.export(Module(), tensors)
    assert getattr(torch.ops.metricconv_mm, name).default in {node.target for node in program.graph.nodes}
    torch.testing.assert_close(program.module()(*tensors), Module()(*tensors))

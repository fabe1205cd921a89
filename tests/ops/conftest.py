"""Fixtures of the operators' tests."""

import pytest
import torch

from metricconv_mm.geometry import reference_support
from metricconv_mm.ops import triton
from metricconv_mm.ops.transforms import TRANSFORMS

# so uneven that no two axes, groups or counts can be mistaken for one another
GEOMETRY = {'stride': (2, 1), 'padding': (1, 0), 'dilation': (1, 2), 'groups': 2}
KERNEL, IMAGE, OUTPUT = (3, 2), (6, 7), (3, 5)
CHANNELS, OUTPUTS, PARAMETER_GROUPS = 6, 4, 3
NAMES = tuple(TRANSFORMS)


@pytest.fixture(autouse=True)
def better_interpreter(monkeypatch):
    """Triton's interpreter cuts bfloat16 off where a GPU rounds, and prepares triton.language again at every call of a device function."""
    if triton.missing() or not triton.interpreted():
        return
    from triton import language as tl
    from triton.runtime import interpreter

    cast, call = interpreter.InterpreterBuilder.cast_impl, interpreter.InterpretedFunction.__call__

    def rounded(self, source, to):
        if source.dtype.scalar == tl.float32 and to.scalar == tl.bfloat16:
            bits = torch.from_numpy(source.data.copy()).bfloat16().view(torch.int16).numpy().view('uint16')
            return interpreter.TensorHandle(bits, tl.bfloat16)
        return cast(self, source, to)

    def prepared(self, *args, **kwargs):
        ours = self.fn.__module__.startswith('metricconv_mm')
        return self.rewrite()(*args, **kwargs) if ours else call(self, *args, **kwargs)

    monkeypatch.setattr(interpreter.InterpreterBuilder, 'cast_impl', rounded)
    monkeypatch.setattr(interpreter.InterpretedFunction, '__call__', prepared)


@pytest.fixture
def lopsided():
    """The geometry, as keyword arguments."""
    return dict(GEOMETRY)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def draw(random_metric):
    """A function giving random (input, parameter, weight, bias, mask) that fit the geometry; mask is None unless asked for."""

    def tensors(name, n=2, dtype=torch.float64, *, mask=True, requires_grad=False, spread=1.5):
        taps, groups = KERNEL[0] * KERNEL[1], PARAMETER_GROUPS
        if TRANSFORMS[name].norm:
            parameter = random_metric(n, *OUTPUT, groups=groups, norm=TRANSFORMS[name].norm)
        else:
            parameter = spread * torch.randn(n, groups * 2 * (taps if name == 'deform_conv2d' else 1), *OUTPUT, dtype=torch.float64)
        drawn = [
            torch.randn(n, CHANNELS, *IMAGE, dtype=torch.float64),
            parameter,
            torch.randn(OUTPUTS, CHANNELS // GEOMETRY['groups'], *KERNEL, dtype=torch.float64),
            torch.randn(OUTPUTS, dtype=torch.float64),
            torch.randn(n, groups * taps, *OUTPUT, dtype=torch.float64) if mask else None,
        ]
        return [None if t is None else t.to(dtype).requires_grad_(requires_grad) for t in drawn]

    return tensors


@pytest.fixture
def operator():
    """``operator(name, input, parameter, weight, bias, mask, **geometry)``: the registered operator itself, 'polar' for a metric."""

    def call(name, input, parameter, weight, bias=None, mask=None, *, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
        extra = ()
        if TRANSFORMS[name].norm:
            dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
            size = tuple(weight.shape[2:]) if weight.dim() == 4 and weight.numel() else (1, 1)
            extra = (reference_support('polar', size, device=parameter.device, dtype=dtype), 1e-6)
        return getattr(torch.ops.metricconv_mm, name)(input, parameter, weight, bias, mask, *extra, stride, padding, dilation, groups)

    return call

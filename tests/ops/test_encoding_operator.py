"""encode_metric as an operator: it is what geometry says, whichever backend runs it."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metricconv_mm import geometry, use_backend
from metricconv_mm.functional import encode_metric
from metricconv_mm.geometry import DRIFTS, ENCODINGS, raw_channels
from metricconv_mm.ops import BACKENDS, backends

KINDS = [(encoding, drift) for encoding in sorted(ENCODINGS) for drift in sorted(DRIFTS)]
CONSTANTS = {'scale_range': (0.2, 1.7), 'eps_L': 0.05, 'eps': 1e-6}
every_kind = pytest.mark.parametrize(('encoding', 'drift'), KINDS, ids=map('-'.join, KINDS))


def draw(encoding, n=2, groups=1, height=5, width=3, dtype=torch.float64, scale=1.0, drift='sigmoid'):
    """Random raw channels, none of them near a kink of its encoding."""
    raw = scale * torch.randn(n, groups * raw_channels(encoding, drift), height, width, dtype=torch.float64)
    return torch.where(raw.abs() < 0.05, 0.05, raw).to(dtype).requires_grad_()


def by_geometry(raw, encoding, drift, ceiling=None, **constants):
    dtype = torch.float64 if raw.dtype == torch.float64 else torch.float32
    metric = geometry.encode_metric(raw.to(dtype).unflatten(1, (-1, raw_channels(encoding, drift))), encoding, drift, **constants)
    return (metric if ceiling is None else geometry.clip_drift(metric, ceiling)).flatten(1, 2)


def assert_is_geometry(raw, encoding, drift, **arguments):
    actual, expected = encode_metric(raw, encoding=encoding, drift=drift, **arguments), by_geometry(raw, encoding, drift, **arguments)
    assert actual.is_contiguous() and actual.dtype == expected.dtype
    # in float32 the determinant of M is a difference, whose rounding shows wherever it is divided by
    tolerance = {} if actual.dtype == torch.float64 else {'rtol': 1e-3, 'atol': 1e-4}
    torch.testing.assert_close(actual, expected, **tolerance)
    grad = torch.randn_like(expected)
    one, other = (torch.autograd.grad(metric, raw, grad)[0] for metric in (actual, expected))
    assert one.dtype == raw.dtype and one.shape == raw.shape
    narrow = {torch.bfloat16: {'rtol': 2e-2, 'atol': 1e-3}, torch.float16: {'rtol': 2e-3, 'atol': 1e-3}}
    torch.testing.assert_close(one, other, **narrow.get(raw.dtype, tolerance))


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@every_kind
@pytest.mark.parametrize(('eps_w', 'ceiling'), [(0.1, 0.999), (0.1, 0.3), (0.5, None), (1, None)])
def test_it_is_geometrys(encoding, drift, eps_w, ceiling):
    assert_is_geometry(draw(encoding, groups=2, drift=drift), encoding, drift, eps_w=eps_w, ceiling=ceiling, **CONSTANTS)


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@every_kind
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_narrow_channels_are_computed_in_float32(encoding, drift, dtype):
    assert_is_geometry(draw(encoding, dtype=dtype, drift=drift), encoding, drift, eps_w=0.1, ceiling=0.999, **CONSTANTS)


LAYOUTS = {
    'channels_last': lambda t: t.to(memory_format=torch.channels_last),
    'slice of NCHW': lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
    'slice of channels_last': lambda t: torch.cat([t, t], 1).to(memory_format=torch.channels_last)[:, : t.shape[1]],
    'transposed': lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    'every other pixel': lambda t: t.repeat_interleave(2, 3)[..., ::2],
    'expanded': lambda t: t[:1, :, :1, :1].expand_as(t),
}


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@pytest.mark.parametrize('layout', LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize('groups', [1, 3])
def test_any_layout_is_read(layout, groups):
    # more pixels than a block of any backend has
    raw = draw('spectral_scaled', groups=groups, height=13, width=11)
    assert_is_geometry(layout(raw.detach()).requires_grad_(), 'spectral_scaled', 'sigmoid', ceiling=0.9)


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@pytest.mark.parametrize('layout', LAYOUTS.values(), ids=LAYOUTS)
def test_gradients_do_not_care_how_the_incoming_one_lies_in_memory(layout):
    raw = draw('spectral_scaled', groups=2)
    metric = encode_metric(raw)
    grad = layout(torch.randn_like(metric))
    expected = torch.autograd.grad(metric, raw, grad.contiguous(), retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(metric, raw, grad), expected, rtol=0, atol=0)


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@pytest.mark.parametrize('shape', [(0, 7, 4, 4), (2, 7, 0, 4), (1, 7, 1, 1), (130, 7, 1, 1), (1, 14, 1, 200)], ids=str)
def test_any_size_is_encoded(shape):
    assert_is_geometry(torch.randn(shape, dtype=torch.float64).requires_grad_(), 'spectral_scaled', 'sigmoid', ceiling=0.9)


@pytest.mark.usefixtures('backend')
@every_kind
def test_gradients_are_the_slopes(encoding, drift):
    raw = draw(encoding, 1, height=2, width=2, drift=drift)
    # a factor held constant has, on purpose, another gradient than finite differences: there only M is compared
    channels = 3 if DRIFTS[drift][1] else 5
    assert torch.autograd.gradcheck(lambda r: encode_metric(r, encoding=encoding, drift=drift)[:, :channels], raw)


@pytest.mark.usefixtures('backend')
@every_kind
@pytest.mark.parametrize('ceiling', [None, 0.3])
def test_second_derivatives_are_those_of_geometry(encoding, drift, ceiling):
    raw = draw(encoding, 1, groups=2, height=2, width=2, drift=drift)
    grad = torch.randn(1, 10, 2, 2, dtype=torch.float64, requires_grad=True)
    seconds = []
    for metric in (encode_metric(raw, encoding=encoding, drift=drift, ceiling=ceiling), by_geometry(raw, encoding, drift, ceiling)):
        (first,) = torch.autograd.grad(metric, raw, grad, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), (raw, grad)))
    torch.testing.assert_close(*seconds)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_second_derivatives_are_the_slopes_of_gradients(encoding):
    assert torch.autograd.gradgradcheck(lambda raw: encode_metric(raw, encoding=encoding, drift='sigmoid'), draw(encoding, 1, height=2, width=2))


@pytest.mark.usefixtures('backend')
@every_kind
def test_subgradients_are_geometrys(encoding, drift):
    """Raw channels of exactly zero: |.|, the vector without a direction, the drift of no length."""
    channels = raw_channels(encoding, drift)
    zeros = torch.tensor([[float(index >> channel & 1) for channel in range(channels)] for index in range(2**channels)], dtype=torch.float64)
    raw = torch.cat([zeros, -zeros]).t().reshape(1, channels, 4, -1).requires_grad_()
    assert_is_geometry(raw, encoding, drift, ceiling=0.9)


@pytest.mark.usefixtures('backend')
@every_kind
def test_errors_are_those_of_rounding(encoding, drift):
    """float32 against float64: no worse than what plain PyTorch loses."""
    arguments = {'eps_w': 0.1, 'ceiling': 0.999, **CONSTANTS}
    exact_raw = draw(encoding, 4, height=16, width=16, dtype=torch.float32, drift=drift).detach().double().requires_grad_()
    raw = exact_raw.detach().float().requires_grad_()
    results = []
    for function, leaf in ((by_geometry, exact_raw), (by_geometry, raw), (lambda r, e, d, **k: encode_metric(r, encoding=e, drift=d, **k), raw)):
        metric = function(leaf, encoding, drift, **arguments)
        grad = torch.randn(metric.shape, generator=torch.Generator().manual_seed(0)).to(metric.dtype)
        results.append([t.double() for t in (metric, *torch.autograd.grad(metric, leaf, grad))])
    for exact, plain, actual in zip(*results, strict=True):
        scale = exact.abs().amax((0, 2, 3), keepdim=True).clamp_min(1e-30)
        error, allowed = (((t - exact) / scale).square().mean().sqrt().item() for t in (actual, plain))
        assert error <= 2 * allowed + 1e-7


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 20)),
    eps_w=st.floats(0.01, 1),
    ceiling=st.none() | st.floats(0.01, 0.999),
    low=st.floats(0.01, 1),
    spread=st.floats(0.1, 10),
    eps_L=st.floats(1e-3, 1),
    eps=st.floats(1e-8, 1e-2),
    scale=st.floats(0.1, 10),
    seed=st.integers(0, 2**31),
)
def test_any_call_is_geometrys(backend, kind, shape, eps_w, ceiling, low, spread, eps_L, eps, scale, seed):
    torch.manual_seed(seed)
    raw = draw(kind[0], *shape, scale=scale, drift=kind[1])
    assert_is_geometry(raw, *kind, eps_w=eps_w, ceiling=ceiling, scale_range=(low, low + spread), eps_L=eps_L, eps=eps)


def test_a_backend_without_it_says_so(monkeypatch):
    monkeypatch.setitem(backends.BACKENDS, 'reference', replace(BACKENDS['reference'], encoder=None))
    with (
        use_backend('reference'),
        pytest.raises(RuntimeError, match="encode_metric cannot run on backend 'reference'. reference: it has no encode_metric"),
    ):
        encode_metric(torch.zeros(1, 7, 2, 2))


def test_the_backward_runs_on_the_backend_of_its_forward(monkeypatch):
    ran, reference = [], BACKENDS['reference']
    encoder = reference.encoder._replace(backward=lambda call, grad: ran.append(call.encoding) or reference.encoder.backward(call, grad))
    monkeypatch.setitem(backends.BACKENDS, 'reference', replace(reference, encoder=encoder))
    with use_backend('reference'):
        metric = encode_metric(draw('ldl'), encoding='ldl')
    metric.sum().backward()
    assert ran == ['ldl']


ERRORS = {
    'encoding': ({'encoding': 'qr'}, ValueError, r"unknown encoding='qr': choose one of \['cholesky', 'isotropic'"),
    'drift': ({'drift': 'tanh'}, ValueError, r"unknown drift='tanh'"),
    'eps_w': ({'eps_w': 0.0}, ValueError, 'expected 0 < eps_w <= 1'),
    'scale_range': ({'scale_range': (1.0, 0.5)}, ValueError, 'expected scale_range='),
    'eps': ({'eps': 0.0}, ValueError, 'expected eps_L > 0 and eps > 0'),
    'ceiling': ({'ceiling': 1.0}, ValueError, 'expected 0 < ceiling < 1, or None.*got ceiling=1.0'),
    'nan ceiling': ({'ceiling': math.nan}, ValueError, 'got ceiling=nan'),
    'channels': (
        {'encoding': 'ldl'},
        ValueError,
        r"encode_metric: encoding 'ldl' with drift 'sigmoid_detached' needs raw \[N, 5 x groups, H, W\], got raw.shape=\(1, 7, 2, 2\)",
    ),
}


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize(('arguments', 'kind', 'words'), ERRORS.values(), ids=ERRORS)
def test_errors_say_what_fits(device, arguments, kind, words):
    with pytest.raises(kind, match=words):
        encode_metric(torch.zeros(1, 7, 2, 2, device=device), **arguments)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('raw', [torch.zeros(7, 2, 2), torch.zeros(1, 0, 2, 2)], ids=['three dimensions', 'no channels'])
def test_errors_say_what_shape_fits(device, raw):
    with pytest.raises(ValueError, match=r'needs raw \[N, 7 x groups, H, W\], got raw.shape='):
        encode_metric(raw.to(device))
    with pytest.raises(TypeError, match=r'expected floating point raw channels, got raw.dtype=torch.int64'):
        encode_metric(torch.zeros(1, 7, 2, 2, dtype=torch.int64, device=device))

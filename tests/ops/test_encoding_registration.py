"""What torch.library, torch.compile, autocast and autograd's memory see of encode_metric, and numbers that are huge or none."""

import math

import pytest
import torch

from metricconv_mm.functional import encode_metric
from metricconv_mm.geometry import DRIFTS, ENCODINGS, clip_drift, raw_channels
from metricconv_mm.geometry import encode_metric as by_geometry

KINDS = [(encoding, drift) for encoding in sorted(ENCODINGS) for drift in sorted(DRIFTS)]
every_kind = pytest.mark.parametrize(('encoding', 'drift'), KINDS, ids=map('-'.join, KINDS))
CONSTANTS = (0.5, 0.1, 1.5, 0.01, 1e-6)
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def draw(n=2, dtype=torch.float32, memory_format=torch.contiguous_format):
    return torch.randn(n, 14, 4, 3, dtype=dtype).to(memory_format=memory_format).requires_grad_()


@pytest.mark.parametrize('ceiling', [None, 0.9])
@pytest.mark.parametrize('memory_format', LAYOUTS)
def test_opcheck(ceiling, memory_format):
    arguments = ('spectral_scaled', 'sigmoid', *CONSTANTS, ceiling)
    torch.library.opcheck(torch.ops.metricconv_mm.encode_metric.default, (draw(memory_format=memory_format), *arguments))
    torch.library.opcheck(
        torch.ops.metricconv_mm.encode_metric_backward.default,
        (torch.randn(2, 10, 4, 3, requires_grad=True), draw(memory_format=memory_format), *arguments),
        test_utils=('test_schema', 'test_autograd_registration', 'test_faketensor'),
    )


@pytest.mark.parametrize('memory_format', LAYOUTS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_meta_tensors_say_shape_dtype_and_layout(dtype, memory_format):
    described = []
    for device in ('cpu', 'meta'):
        raw = draw(dtype=dtype, memory_format=memory_format).detach().to(device).requires_grad_()
        metric = encode_metric(raw)
        tensors = (metric, *torch.autograd.grad(metric.sum(), raw))
        described.append([(t.shape, t.dtype, t.stride()) for t in tensors])
    assert described[0] == described[1]


@pytest.mark.parametrize('options', [{'backend': 'aot_eager'}, {'backend': 'aot_eager', 'dynamic': True}, {}], ids=str)
def test_compiled_is_eager(options):
    def function(raw):
        return encode_metric(raw * 2, drift='sigmoid', ceiling=0.9).relu()

    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, **options)
    for n in (11, 13):
        raw = draw(n)
        out, expected = compiled(raw), function(raw)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(*(torch.autograd.grad(o.square().sum(), raw) for o in (out, expected)))


def test_export_keeps_the_operator_whole():
    class Module(torch.nn.Module):
        def forward(self, raw):
            return encode_metric(raw)

    raw = draw().detach()
    program = torch.export.export(Module(), (raw,))
    assert torch.ops.metricconv_mm.encode_metric.default in {node.target for node in program.graph.nodes}
    torch.testing.assert_close(program.module()(raw), encode_metric(raw))


@pytest.mark.usefixtures('backend')
def test_autocast_changes_nothing():
    raw = draw()
    with torch.autocast('cpu', torch.bfloat16):
        metric = encode_metric(raw)
        narrow = encode_metric(raw.bfloat16())
    torch.testing.assert_close(metric, encode_metric(raw), rtol=0, atol=0)
    torch.testing.assert_close(narrow, encode_metric(raw.bfloat16()), rtol=0, atol=0)
    assert metric.dtype == narrow.dtype == torch.float32


def test_raw_alone_is_kept_for_backward():
    kept, raw = [], draw(memory_format=torch.channels_last)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        encode_metric(raw, ceiling=0.9)
    assert [t.data_ptr() for t in kept] == [raw.data_ptr()]


def test_without_gradients_nothing_is_recorded():
    with torch.no_grad():
        assert not encode_metric(draw()).requires_grad
    with torch.inference_mode():
        assert encode_metric(draw()).is_inference()


WILD = [0, -0.0, 1e-30, -1e-7, 1e-6, 1, -3, 50, -120, 1e4, 1e18, -1e30, 3e38, math.inf, -math.inf, math.nan]


@pytest.mark.usefixtures('backend')
@every_kind
@pytest.mark.parametrize('ceiling', [None, 0.995])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_wild_numbers_become_what_geometry_makes_of_them(encoding, drift, ceiling, dtype):
    # with zeros, kinks, overflow, infinities and NaN in every combination of channels that chance brings
    channels = raw_channels(encoding, drift)
    wild = torch.tensor(WILD, dtype=dtype)
    raw = torch.stack([wild[torch.randint(limit, (channels, 60, 60))] for limit in (10, len(WILD))]).requires_grad_()
    actual = encode_metric(raw, encoding=encoding, drift=drift, eps_w=0.3, ceiling=ceiling)
    expected = by_geometry(raw, encoding, drift, 0.3)
    expected = expected if ceiling is None else clip_drift(expected, ceiling)
    # bounds of short drifts are differences, 2 sigmoid - 1, that show how exp rounds
    torch.testing.assert_close(actual, expected, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=1e-30, equal_nan=True)
    grad = torch.randn_like(expected)
    one, other = (torch.autograd.grad(metric, raw, grad)[0] for metric in (actual, expected))
    assert one[other.isfinite()].isfinite().all()


@pytest.mark.usefixtures('backend')
@every_kind
def test_nan_stays_in_its_pixel(encoding, drift):
    channels = raw_channels(encoding, drift)
    for channel in range(channels):
        raw = torch.randn(2, 2 * channels, 9, 8)
        raw[1, channels + channel, 6, 5] = math.nan
        raw.requires_grad_()
        metric = encode_metric(raw, encoding=encoding, drift=drift, ceiling=0.9)
        bad = metric.isnan().nonzero()
        assert len(bad) and (bad[:, [0, 2, 3]] == torch.tensor([1, 6, 5])).all() and (bad[:, 1] >= 5).all()
        metric.sum().backward()
        lost = raw.grad.isnan().nonzero()
        assert len(lost) and (lost[:, [0, 2, 3]] == torch.tensor([1, 6, 5])).all() and (lost[:, 1] >= channels).all()

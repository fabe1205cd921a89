"""The Triton kernels of encode_metric: computed by Triton's interpreter, and compiled for GPUs that are not here."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from metricconv_mm.geometry import DRIFTS, ENCODINGS, Limits, raw_channels
from metricconv_mm.ops import encoding_triton
from metricconv_mm.ops.encoding import EncodingCall
from metricconv_mm.ops.triton import interpreted

pytest.importorskip('triton')
KINDS = [(encoding, drift) for encoding in sorted(ENCODINGS) for drift in sorted(DRIFTS)]


def make_call(encoding='spectral_scaled', drift='sigmoid', dtype=torch.float32, eps_w=0.1, ceiling=0.995, **options):
    channels = raw_channels(encoding, drift)
    raw = torch.randn(1, 2 * channels, 3, 100, dtype=dtype, **options)
    # kinks, vectors without a direction, and NaN in every channel
    raw[..., 1, :8].clamp_(-1e-7, 1e-7)
    raw[..., 0, :20] = 0
    raw[..., 0, : raw.shape[1]].diagonal(0, 1, 2).fill_(torch.nan)
    return EncodingCall(raw, encoding, drift, Limits(eps_w), ceiling).check()


def compare_with_the_reference():
    """In a process of its own: whether kernels are interpreted is settled when they are first imported."""
    from metricconv_mm.ops import encoding

    torch.manual_seed(0)
    calls = [make_call(*kind) for kind in KINDS]
    calls += [make_call(dtype=dtype) for dtype in (torch.bfloat16, torch.float16)]
    calls += [make_call(eps_w=1, ceiling=None), make_call(ceiling=None), make_call(drift='clip_detached', ceiling=0.2)]
    calls += [replace(make_call(), raw=make_call().raw.to(memory_format=torch.channels_last)), replace(make_call(), raw=make_call().raw[:0])]
    for call in calls:
        assert encoding_triton.refusal(call) is None
        grad = torch.randn(call.output_shape).transpose(2, 3).contiguous().transpose(2, 3)
        metric, gradient = encoding_triton.forward(call), encoding_triton.backward(call, grad)
        torch.testing.assert_close(metric, encoding.forward(call), rtol=1e-3, atol=1e-5, equal_nan=True)
        expected = encoding.backward(call, grad)
        assert gradient.stride() == expected.stride()
        tolerance = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(gradient.dtype, 1e-3)
        # relative to the largest of the pixel: the reference's gradient of a direction is the difference of larger ones
        largest = expected.float().abs().amax(1, keepdim=True)
        torch.testing.assert_close(gradient / largest, expected / largest, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_interpreted_kernels_compute_what_the_reference_does():
    code = f'import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_encoding_triton as t; t.compare_with_the_reference()'
    done = subprocess.run([sys.executable, '-c', code], env={**os.environ, 'TRITON_INTERPRET': '1'}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(interpreted(), reason='interpreted kernels are not compiled')
@pytest.mark.parametrize(
    ('capability', 'encoding', 'drift', 'pointer'),
    [(90, *kind, '*fp32') for kind in KINDS]
    + [(capability, 'spectral_scaled', 'sigmoid', pointer) for capability in (80, 100) for pointer in ('*fp32', '*bf16', '*fp16')],
)
def test_kernels_compile(capability, encoding, drift, pointer):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from metricconv_mm.ops.triton import encoding as kernels

    constants = encoding_triton.constants(make_call(encoding, drift))
    for kernel in (kernels.encode, kernels.encode_backward):
        pointers = {'raw': pointer, 'grad_raw': pointer, 'metric': '*fp32', 'grad': '*fp32'}
        signature = {name: 'constexpr' if name in constants else pointers.get(name, 'i32') for name in kernel.arg_names}
        source = ASTSource(kernel, signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget('cuda', capability, 32), options={'num_warps': 4, 'enable_fp_fusion': False})
        assert 'fma' not in compiled.asm['ptx']


@pytest.mark.skipif(interpreted(), reason='interpreted kernels run on the CPU')
def test_what_it_cannot_encode_is_refused_with_the_reason(monkeypatch):
    assert encoding_triton.refusal(make_call()) == 'raw is on cpu'
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    assert encoding_triton.refusal(make_call()) is None
    assert encoding_triton.refusal(make_call(dtype=torch.float64)) == 'it computes in float32, and raw is torch.float64'

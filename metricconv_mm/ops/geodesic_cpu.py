"""geodesic_ball in C++ (csrc/geodesic.cpp): neighbouring pixels together, each with windows no larger than its heat."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..geometry.flow import Flow
from ..geometry.geodesic import require_window
from .geodesic import GeodesicCall

#: bytes of a window's cell: how many pixels are computed together, and zeros on either side of the kernels
CELL = 64
#: how many parts of an image have gradients of their own to add to
MOST_PARTS = 8


def refusal(call: GeodesicCall) -> str | None:
    """Why the backend cannot run ``call``."""
    if not hasattr(torch.ops.metricconv_mm_cpu, 'geodesic_flow'):
        return 'its extension is older than the package: build it again'
    return None if call.metric.device.type == 'cpu' else f'metric is on {call.metric.device}'


def _padded(kernels: Tensor) -> Tensor:
    """``[N, T, H, W]`` as ``[N, H, T, W]`` with zeros on either side of a row."""
    lanes = CELL // kernels.element_size()
    return pad(kernels.transpose(1, 2), (lanes, lanes)).contiguous()


def _constants(kernels: Tensor, flow: Flow) -> tuple[list[int], list[float]]:
    radius = math.isqrt(kernels.shape[1]) // 2
    return [radius, flow.heat_steps, flow.flow_steps], [flow.flow_step, flow.flow_eps, flow.threshold, *map(float, flow.spacing)]


def forward(kernels: Tensor, samples: Tensor, flow: Flow) -> Tensor:
    """Samples flown along the heat of their pixels."""
    flown = torch.empty_like(samples, memory_format=torch.contiguous_format)
    reach = torch.ops.metricconv_mm_cpu.geodesic_flow(_padded(kernels), samples.contiguous(), *_constants(kernels, flow), flown)
    require_window(2 * reach + 1, flow)
    return flown


def backward(grad: Tensor, kernels: Tensor, samples: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
    """Gradients of kernels and samples."""
    padded = _padded(kernels)
    parts = max(1, min(-(-torch.get_num_threads() // kernels.shape[0]), MOST_PARTS, kernels.shape[2]))
    grad_padded, grad_samples = padded.new_zeros(parts, *padded.shape), torch.empty_like(samples, memory_format=torch.contiguous_format)
    torch.ops.metricconv_mm_cpu.geodesic_flow_backward(
        grad.contiguous(), padded, samples.contiguous(), *_constants(kernels, flow), grad_padded, grad_samples
    )
    lanes = CELL // kernels.element_size()
    return grad_padded.sum(0)[..., lanes:-lanes].transpose(1, 2), grad_samples

"""encode_metric: one call of it, the checks that eager and fake kernels share, and its definition, which is geometry's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..geometry import Limits, check_encoding, clip_drift, encode_metric, raw_channels


@dataclass(frozen=True)
class EncodingCall:
    """metric = clip_drift(encode_metric(raw, encoding, drift, *limits), ceiling), for every group of channels; ceiling None clips nothing."""

    operator = 'encode_metric'

    raw: Tensor
    encoding: str
    drift: str
    limits: Limits
    ceiling: float | None

    @property
    def channels(self) -> int:
        """Raw channels of a group."""
        return raw_channels(self.encoding, self.drift)

    @property
    def groups(self) -> int:
        return self.raw.shape[1] // self.channels

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        n, _, height, width = self.raw.shape
        return n, 5 * self.groups, height, width

    @property
    def dtype(self) -> torch.dtype:
        """Of the metric, and of everything computed on the way: half a mantissa is not enough for positions."""
        return torch.float64 if self.raw.dtype == torch.float64 else torch.float32

    def memory_format(self) -> torch.memory_format:
        """Of raw's gradient: channels_last if raw is, and cannot be read as NCHW as well."""
        last = self.raw.is_contiguous(memory_format=torch.channels_last) and not self.raw.is_contiguous()
        return torch.channels_last if last else torch.contiguous_format

    def check(self) -> EncodingCall:
        """Raise ValueError or TypeError, naming what was expected and what came; return the call itself."""
        check_encoding(self.encoding, self.drift, self.limits)
        raw = self.raw
        if raw.dim() != 4 or raw.shape[1] == 0 or raw.shape[1] % self.channels:
            raise ValueError(
                f'{self.operator}: encoding {self.encoding!r} with drift {self.drift!r} needs raw [N, {self.channels} x groups, H, W], '
                f'got raw.shape={tuple(raw.shape)}'
            )
        if not raw.is_floating_point():
            raise TypeError(f'{self.operator}: expected floating point raw channels, got {raw.dtype=}')
        if self.ceiling is not None and not 0 < self.ceiling < 1:
            raise ValueError(f'{self.operator}: expected 0 < ceiling < 1, or None to clip no drift, got ceiling={self.ceiling}')
        return self


def forward(call: EncodingCall) -> Tensor:
    """The operator in plain PyTorch, differentiable as often as one likes."""
    metric = encode_metric(call.raw.to(call.dtype).unflatten(1, (call.groups, call.channels)), call.encoding, call.drift, *call.limits)
    if call.ceiling is not None:
        metric = clip_drift(metric, call.ceiling)
    return metric.flatten(1, 2).contiguous()


def backward(call: EncodingCall, grad: Tensor) -> Tensor:
    """Its gradient, the forward pass computed again."""
    # torch.func, because autograd itself records nothing inside an operator
    pull = torch.func.vjp(lambda raw: forward(replace(call, raw=raw)), call.raw)[1]
    return pull(grad)[0].contiguous(memory_format=call.memory_format())

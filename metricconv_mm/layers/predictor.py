"""The intermediate convolution that predicts where an adaptive convolution samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..geometry.supports import Size2

SMALL = 1e-6


class Predictor(nn.Module):
    """A convolution from the input's channels to raw parameters, windowed as the layer that owns it.

    Deliberately no nn.Conv2d: host models re-initialise those by class (mmengine) or isinstance (timm, torchvision), which would scatter the
    samples over the image before training starts.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *kernel_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype))

    def forward(self, input: Tensor, stride: Size2, padding: Size2, dilation: Size2) -> Tensor:
        return nn.functional.conv2d(input, self.weight, self.bias, stride, padding, dilation)

    def extra_repr(self) -> str:
        return f'{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}'

    @property
    def fan_in(self) -> int:
        return self.in_channels * self.kernel_size[0] * self.kernel_size[1]

    @torch.no_grad()
    def initialise(self, start: int, channels: str, bias: list[float] | None = None) -> None:
        """Set the channels from ``start`` on, a letter each, and their bias (0 if not given).

        'u': 1 / fan_in everywhere; 'r': nn.Conv2d's random default; 's': 1e-6 everywhere; 'z': 0; 'b': 1e-6, and nn.Conv2d's random bias.
        """
        bound = 1 / math.sqrt(self.fan_in)
        for offset, kind in enumerate(channels):
            weight = self.weight[start + offset]
            if kind == 'r':
                weight.uniform_(-bound, bound)
            else:
                weight.fill_({'u': 1 / self.fan_in, 's': SMALL, 'b': SMALL, 'z': 0.0}[kind])
            if kind == 'b':
                self.bias[start + offset].uniform_(-bound, bound)
            else:
                self.bias[start + offset] = bias[offset] if bias else 0.0

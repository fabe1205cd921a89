"""Deformable convolution."""

from __future__ import annotations

from torch import Tensor

from .. import functional
from ..geometry.supports import Size2
from .adaptive import AdaptiveConv2d
from .names import register_convolution


@register_convolution('DeformConv')
class DeformConv2d(AdaptiveConv2d):
    """nn.Conv2d with a predicted offset (dy, dx) for every tap of every output pixel; v2 with ``modulation``.

    Args:
        parameter_groups: groups of input channels with offsets of their own.
        predictor_init: 'paper' (weights 1e-6, random bias: random constant offsets of up to 1 / sqrt(K C_in)), or 'identity', exactly nn.Conv2d.

    The other arguments are those of :class:`AdaptiveConv2d`.
    """

    def predictor_channels(self) -> int:
        return 2 * self.taps

    def initialise_predictor(self, group: int, start: int) -> None:
        self.predictor.initialise(start, ('b' if self.predictor_init == 'paper' else 'z') * self.predictor_channels())

    def samples_from(self, raw: Tensor) -> Tensor:
        return self.grid(raw) + raw.unflatten(1, (self.taps, 2)).flip(2)

    def convolve(self, input: Tensor, raw: Tensor, mask: Tensor | None, padding: Size2) -> Tensor:
        return functional.deform_conv2d(input, raw, self.weight, self.bias, mask=mask, padding=padding, **self._geometry())

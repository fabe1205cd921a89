"""Shifted convolution."""

from __future__ import annotations

from torch import Tensor

from .. import functional
from ..geometry.supports import Size2
from .adaptive import AdaptiveConv2d
from .names import register_convolution


@register_convolution('ShiftedConv')
class ShiftedConv2d(AdaptiveConv2d):
    """nn.Conv2d whose window is shifted as a whole, by a predicted (dy, dx), at every output pixel ("entire deformable" convolution, Sec. 2).

    Args:
        parameter_groups: groups of input channels with a shift of their own.
        predictor_init: 'paper' (weights 1e-6, random bias: a random constant shift of up to 1 / sqrt(K C_in)), or 'identity', exactly nn.Conv2d.

    The other arguments are those of :class:`AdaptiveConv2d`.
    """

    def predictor_channels(self) -> int:
        return 2

    def initialise_predictor(self, group: int, start: int) -> None:
        self.predictor.initialise(start, 'bb' if self.predictor_init == 'paper' else 'zz')

    def samples_from(self, raw: Tensor) -> Tensor:
        return self.grid(raw) + raw.flip(1).unsqueeze(1)

    def convolve(self, input: Tensor, raw: Tensor, mask: Tensor | None, padding: Size2) -> Tensor:
        return functional.shifted_conv2d(input, raw, self.weight, self.bias, mask=mask, padding=padding, **self._geometry())

"""Metric convolution over unit geodesic balls."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import functional
from ..geometry.flow import check_stencil, flow_of
from ..geometry.supports import Size2
from .adaptive import IntPair
from .metric import MetricConv2d
from .names import register_convolution


@register_convolution('GeodesicConv')
class GeodesicConv2d(MetricConv2d):
    """nn.Conv2d over the unit geodesic ball of a predicted Randers metric at every output pixel (Sec. 4.2, D.7).

    The metric comes from a predictor as in :class:`MetricConv2d`. The samples of its unit tangent ball, ``stencil_scale`` times as large, then flow
    away from the pixel along the heat that spreads from it (:func:`~metricconv_mm.geometry.geodesic_ball`): they see the metrics of the neighbours,
    too. The defaults are made for layers. Near the pixel every flow step multiplies a sample's distance by 1 + flow_step: from half of the unit disk,
    three of them lead to 0.98 of it. Heat spreads in two steps, which reach a few pixels. With ``stencil_scale=1, flow_time=0`` the layer is
    :class:`MetricConv2d`.

    Args:
        heat_step, heat_time: of the heat, in pixels squared.
        flow_step, flow_time: of the samples, in pixels; none moves by more than ``flow_time``.
        stencil_scale: size of the tangent ball that the flow starts from.
        flow_eps: samples stay where the gradient of the heat is fainter. Gradients grow as 1 / flow_eps: the paper's 1e-6 is for metrics that are not
            learnt.
        window: 'auto' looks as far as there is heat, None is the exact flow over the whole image; an odd number is an error where heat gets further.

    The other arguments are those of :class:`MetricConv2d`. Metrics lie ``stride`` pixels apart.

    Raises:
        ValueError: for names, sizes, times or constants that do not fit, saying which do.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair | str = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = 'zeros',
        *,
        heat_step: float = 0.25,
        heat_time: float = 0.5,
        flow_step: float = 0.25,
        flow_time: float = 0.75,
        stencil_scale: float = 0.5,
        flow_eps: float = 1e-3,
        window: int | str | None = 'auto',
        **metric: Any,
    ) -> None:
        self.times = {'heat_step': heat_step, 'heat_time': heat_time, 'flow_step': flow_step, 'flow_time': flow_time}
        self.stencil_scale, self.flow_eps, self.window = stencil_scale, flow_eps, window
        flow_of(heat_step, heat_time, flow_step, flow_time, flow_eps, window=window)
        check_stencil(stencil_scale, metric.get('eps', 0.0))
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, **metric)
        if self.norm != 'randers':
            raise ValueError(
                f"metric={self.family!r} has no geodesic ball here, its heat needs the dual norm: expected 'randers', 'riemann' or 'isotropic'"
            )

    def samples_from(self, raw: Tensor) -> Tensor:
        return functional.geodesic_ball(self._grouped_metric(raw), self.kernel_size, spacing=self.stride, dilation=self.dilation, **self._flow())

    def convolve(self, input: Tensor, raw: Tensor, mask: Tensor | None, padding: Size2) -> Tensor:
        return functional.geodesic_conv2d(
            input, self._grouped_metric(raw), self.weight, self.bias, mask=mask, padding=padding, **self._flow(), **self._geometry()
        )

    def _flow(self) -> dict[str, Any]:
        constants = {'stencil_scale': self.stencil_scale, 'flow_eps': self.flow_eps, 'window': self.window}
        return {**self.times, **constants, 'support': self.support, 'eps': self.limits.eps}

    def extra_repr(self) -> str:
        times = ', '.join(f'{name}={value}' for name, value in self.times.items())
        return f'{super().extra_repr()}, {times}, stencil_scale={self.stencil_scale}'

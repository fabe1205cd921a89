"""Metric convolution over unit tangent balls."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import functional, geometry
from ..geometry.supports import Size2
from .adaptive import AdaptiveConv2d, IntPair
from .names import register_convolution

#: share of eps_w that is left to F where a nearly singular M would make it negative
POSITIVITY = 0.005


@register_convolution('MetricConv')
class MetricConv2d(AdaptiveConv2d):
    """nn.Conv2d over the unit tangent ball of a predicted metric at every output pixel (Sec. 4, Eq. 4).

    A predictor gives 1 to 7 raw numbers a pixel, ``encoding`` and ``drift`` turn them into a metric, positive by construction, and the kernel samples
    its unit ball at the taps of ``support``.

    Args:
        metric: 'randers', F = alpha + beta with alpha = sqrt(u^T M u) and beta = w^T u, an ellipse off its centre; 'matsumoto',
            F = alpha^2 / (alpha - beta), no ellipse; 'riemann', F = alpha, an ellipse about its centre; 'isotropic', F = sqrt(m) |u|, a disk: one
            predicted number a pixel.
        encoding: 'spectral_scaled' (unless given), 'spectral', 'cholesky', 'ldl', 'isotropic' (:func:`~metricconv_mm.geometry.encode_metric`).
        drift: 'sigmoid_detached' (unless given), 'sigmoid', 'clip_detached', or 'none', w = 0.
        support: 'onion' (odd square kernels), 'polar', or 'grid': with the identity metric the samples are nn.Conv2d's own, so pretrained kernels
            keep their meaning.
        eps_w: 1 - the largest asymmetry ||w||_{M^-1}, of which 'randers' allows less than 1 and 'matsumoto' 1/2, as a share of that; in (0, 1], 1 is
            Riemannian.
        scale_range: range of the mean eigenvalue of 'spectral_scaled' and 'isotropic'; an eigenvalue of L is a radius of 1 / sqrt(L) pixels.
        eps_L: least |eigenvalue| or diagonal of the other encodings.
        eps: added to norms that are divided by.
        metric_groups: groups of input channels with a metric of their own.
        predictor_init: 'paper' (near an isotropic metric, Sec. E.6), or 'identity', the unit disk. 'identity' unless given when
            support is 'grid'.

    The other arguments are those of :class:`AdaptiveConv2d`; its ``parameter_groups`` is another word for ``metric_groups``.

    Raises:
        ValueError: for names, sizes or constants that do not fit, saying which do.
    """

    adapts_single_tap = False
    groups_argument = 'metric_groups'

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
        metric: str = 'randers',
        encoding: str | None = None,
        drift: str | None = None,
        support: str = 'onion',
        eps_w: float = 0.5,
        scale_range: tuple[float, float] = (0.1, 1.5),
        eps_L: float = 0.01,
        eps: float = 1e-6,
        metric_groups: int = 1,
        predictor_init: str | None = None,
        **shared: Any,
    ) -> None:
        self.family, self.support = metric, support
        self.norm, self.encoding, self.drift = geometry.choose_metric(metric, encoding, drift)
        self.limits = geometry.Limits(eps_w, tuple(scale_range), eps_L, eps)  # type: ignore[arg-type]
        geometry.check_encoding(self.encoding, self.drift, self.limits)
        geometry.reference_support(support, kernel_size)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            parameter_groups=shared.pop('parameter_groups', metric_groups),
            predictor_init=predictor_init or ('identity' if support == 'grid' else 'paper'),
            **shared,
        )

    def predictor_channels(self) -> int:
        return geometry.raw_channels(self.encoding, self.drift)

    def initialise_predictor(self, group: int, start: int) -> None:
        initial = geometry.ENCODINGS[self.encoding].initial[: self.predictor_channels()]
        if self.predictor_init == 'paper':
            self.predictor.initialise(start, initial)
            return
        # the eigenvectors stay random: they do not show while the metric is isotropic, and at zero they could not be learnt
        channels = ''.join('r' if kind == 'r' and i < 2 else 'z' for i, kind in enumerate(initial))
        unit = geometry.isotropic_raw((1 - self.limits.eps) ** 2, self.encoding, self.limits, self.drift)
        self.predictor.initialise(start, channels, unit)

    def samples_from(self, raw: Tensor) -> Tensor:
        metric = self._grouped_metric(raw)
        return geometry.tangent_ball(metric, self.support, self.kernel_size, self.limits.eps, dilation=self.dilation, norm=self.norm)

    def metric(self, input: Tensor) -> Tensor:
        """The metric that the layer predicts for ``input``: ``Tensor[N, 5 * metric_groups, Ho, Wo]``, in float32 or better."""
        return self._grouped_metric(self._predict(*self._pad(self._batched(input)))[0])

    def convolve(self, input: Tensor, raw: Tensor, mask: Tensor | None, padding: Size2) -> Tensor:
        return functional.metric_conv2d(
            input,
            self._grouped_metric(raw),
            self.weight,
            self.bias,
            mask=mask,
            support=self.support,
            padding=padding,
            eps=self.limits.eps,
            norm=self.norm,
            **self._geometry(),
        )

    def _grouped_metric(self, raw: Tensor) -> Tensor:
        constants = self.limits._asdict()
        return functional.encode_metric(raw, encoding=self.encoding, drift=self.drift, ceiling=self._ceiling, norm=self.norm, **constants)

    @property
    def _ceiling(self) -> float | None:
        if self.limits.eps_w == 1 or self.drift == 'none':
            return None
        return geometry.NORMS[self.norm].limit * (1 - POSITIVITY * self.limits.eps_w)

    def extra_repr(self) -> str:
        shared = super().extra_repr()
        return f'{shared}, metric={self.family!r}, encoding={self.encoding!r}, drift={self.drift!r}, support={self.support!r}, eps_w={self.limits.eps_w}'

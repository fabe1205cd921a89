"""Averages over supports that nobody has learnt: how each convolution of the paper filters an image (Fig. 14, Sec. E.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import functional, geometry


@dataclass(frozen=True)
class Settings:
    """Constants of the filters, the paper's by default.

    Args:
        kernel_size: k of the k x k samples, odd.
        taus: asymmetries ||w||_{M^-1} of the metrics, each in [0, 1).
        iota, anisotropy: of :func:`~metricconv_mm.geometry.gradient_metric`, for unit tangent balls.
        dilation: of the dilated filter.
        span: the interpolated filter's samples lie within so many pixels of the centre along each axis.
        seed: of the random offsets.

    Raises:
        ValueError: for an even or missing kernel, tau outside [0, 1), or a dilation below 1.
    """

    kernel_size: int = 11
    taus: Sequence[float] = (0.0, 0.5, 0.9)
    iota: float = 10.0
    anisotropy: float = 100.0
    dilation: int = 3
    span: float = 2.0
    seed: int = 42
    elongate: str = 'edge'
    drift: str = 'edge'

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f'expected an odd kernel size of at least 1, got kernel_size={self.kernel_size}')
        if self.dilation < 1:
            raise ValueError(f'expected a dilation of at least 1, got dilation={self.dilation}')
        wrong = [tau for tau in self.taus if not 0 <= tau < 1]
        if wrong:
            raise ValueError(f'expected asymmetries 0 <= tau < 1, beyond which a metric is not positive, got {wrong}')


#: the constants of unit geodesic balls in Fig. 14; stencils are twice the unit tangent ball
GEODESIC: dict[str, Any] = {'heat_step': 0.01, 'heat_time': 0.1, 'flow_step': 0.01, 'flow_time': 0.1}
#: and in Fig. 5, where more is seen of the flow
GEODESIC_FIGURE: dict[str, Any] = {'heat_step': 0.1, 'heat_time': 0.5, 'flow_step': 0.1, 'flow_time': 1.0}
GEODESIC_METRIC = {'iota': 1.0, 'anisotropy': 10.0}
#: pixels by which the image is reflected at its border for them
MARGIN = 10


#: a label, and the filtered images
Filtered = Iterator[tuple[str, Tensor]]


def _kernel(image: Tensor, size: tuple[int, int]) -> Tensor:
    return image.new_full((1, 1, *size), 1 / (size[0] * size[1]))


def _box(image: Tensor, size: int, dilation: int) -> Tensor:
    return torch.nn.functional.conv2d(image, _kernel(image, (size, size)), padding=dilation * (size // 2), dilation=dilation)


def standard(image: Tensor, settings: Settings) -> Filtered:
    """The k x k box."""
    yield 'standard', _box(image, settings.kernel_size, 1)


def dilated(image: Tensor, settings: Settings) -> Filtered:
    """The k x k box whose taps are ``dilation`` pixels apart."""
    yield f'dilated ({settings.dilation})', _box(image, settings.kernel_size, settings.dilation)


def interpolated(image: Tensor, settings: Settings) -> Filtered:
    """k x k samples between the pixels, over [-span, span]^2."""
    k = settings.kernel_size
    identity = image.new_tensor([1.0, 0.0, 1.0, 0.0, 0.0]).reshape(1, 5, 1, 1).expand(len(image), 5, *image.shape[2:])
    support = geometry.reference_support('grid', k, dtype=image.dtype).clone()
    support[:, 2] *= settings.span / max(k // 2, 1)
    yield 'interpolated', functional.metric_conv2d(image, identity, _kernel(image, (k, k)), support=support, padding=k // 2, eps=0.0)


def deformable(image: Tensor, settings: Settings) -> Filtered:
    """The k x k box, each tap moved by up to k pixels along each axis at random."""
    k = settings.kernel_size
    source = torch.Generator().manual_seed(settings.seed)
    total = torch.zeros_like(image)
    # row by row of the kernel: the offsets of all taps at once would be 2 k^2 images
    for row in range(k):
        offset = k * (2 * torch.rand(len(image), k, 2, *image.shape[2:], generator=source, dtype=image.dtype) - 1)
        offset[:, :, 0] += row - k // 2
        total += functional.deform_conv2d(image, offset.flatten(1, 2), _kernel(image, (1, k)), padding=(0, k // 2))
    yield 'deformable (random)', total / k


def tangent(image: Tensor, settings: Settings) -> Filtered:
    """k x k samples of the unit tangent ball of the image's gradient metric and its centre, for every asymmetry."""
    k = settings.kernel_size
    for tau in settings.taus:
        metric = gradient_metric_of(image, settings, tau)
        mean = functional.metric_conv2d(image, metric, _kernel(image, (k, k)), support='polar', padding=k // 2)
        yield f'unit tangent balls, tau {tau:g}', with_centre(mean, image, k)


def geodesic(image: Tensor, settings: Settings) -> Filtered:
    """k x k samples of the unit geodesic ball of the image's gradient metric and its centre, for every asymmetry."""
    k, height, width = settings.kernel_size, *image.shape[-2:]
    wider, margin = reflected(image)
    inside = (..., slice(margin, margin + height), slice(margin, margin + width))
    for tau in settings.taus:
        metric = gradient_metric_of(wider, settings, tau, **GEODESIC_METRIC)
        # channel by channel: the samples take more memory than the image
        means = [functional.geodesic_conv2d(channel, metric[:1], _kernel(image, (k, k)), padding=k // 2, **GEODESIC) for channel in wider.split(1)]
        yield f'unit geodesic balls, tau {tau:g}', with_centre(torch.cat(means)[inside], image, k)


def reflected(image: Tensor) -> tuple[Tensor, int]:
    """``Tensor[N, C, H, W]`` reflected at its border, and by how many pixels: outside there is no heat, which drives samples near the border out."""
    margin = min(MARGIN, image.shape[-2] - 1, image.shape[-1] - 1)
    return F.pad(image, (margin,) * 4, mode='reflect'), margin


def gradient_metric_of(image: Tensor, settings: Settings, tau: float, **constants: float) -> Tensor:
    """The metric of the channels' mean, which is seen by all channels alike, with iota and anisotropy of the settings unless given."""
    return geometry.gradient_metric(
        image.transpose(0, 1),
        elongate=settings.elongate,
        drift=settings.drift,
        tau=tau,
        **{'iota': settings.iota, 'anisotropy': settings.anisotropy, **constants},
    ).expand(len(image), -1, -1, -1)


def with_centre(mean: Tensor, image: Tensor, kernel_size: int) -> Tensor:
    """The mean over k^2 samples and the pixel itself: the polar support has no centre."""
    taps = kernel_size**2
    return (taps * mean + image) / (taps + 1)


#: name -> function(image [C, 1, H, W], settings) giving labels and filtered images
FILTERS: dict[str, Callable[[Tensor, Settings], Filtered]] = {
    'standard': standard,
    'dilated': dilated,
    'deformable': deformable,
    'interpolated': interpolated,
    'tangent': tangent,
    'geodesic': geodesic,
}


def apply_filters(image: Tensor, settings: Settings, names: Sequence[str] | None = None) -> Filtered:
    """The image as every filter returns it, with a label each.

    Args:
        image: ``Tensor[C, H, W]``; metrics come from the mean of the channels.
        names: of :data:`FILTERS`; None is all of them.

    Raises:
        ValueError: for an unknown name, or an image that is not [C, H, W], has no pixel, or holds NaN or infinity.
    """
    if image.dim() != 3 or not image.is_floating_point():
        raise ValueError(f'expected a floating point image [C, H, W], got {tuple(image.shape)}, {image.dtype}')
    if 0 in image.shape or not image.isfinite().all():
        raise ValueError(
            f'expected an image of at least one pixel, all finite, got {tuple(image.shape)}, {int((~image.isfinite()).sum())} values not finite'
        )
    unknown = [name for name in names or () if name not in FILTERS]
    if unknown:
        raise ValueError(f'unknown filters {unknown}: choose from {list(FILTERS)}')
    for name in names or FILTERS:
        for label, filtered in FILTERS[name](image.unsqueeze(1), settings):
            yield label, filtered.squeeze(1)

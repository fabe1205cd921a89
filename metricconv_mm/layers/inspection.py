"""The adaptive convolutions of a model, and what they do on an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..geometry import anisotropy, ball_radius, drift_norm
from .adaptive import AdaptiveConv2d
from .metric import MetricConv2d


def adaptive_layers(model: nn.Module) -> dict[str, AdaptiveConv2d]:
    """Every adaptive convolution of ``model`` by its name.

    Raises:
        ValueError: when there is none.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, AdaptiveConv2d)}
    if not layers:
        raise ValueError(
            f'{type(model).__name__} has no adaptive convolution: expected some, from conv_cfg, adaptive_cfg, ConvertConvs or metricconv_mm.surgery'
        )
    return layers


@contextmanager
def recorded_inputs(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """Collects, for every layer that runs inside, the inputs it is called with.

    Example:
        >>> with recorded_inputs(adaptive_layers(model)) as inputs:
        ...     model(image)
    """
    inputs: dict[str, list[Tensor]] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple], None]:
        return lambda module, args: inputs.setdefault(name, []).append(args[0])

    handles = [layer.register_forward_pre_hook(recorder(name)) for name, layer in layers.items()]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def geometry_statistics(layer: AdaptiveConv2d, input: Tensor) -> dict[str, float]:
    """Where ``layer`` samples ``input``, in medians over images, groups and output pixels: a few needle-thin balls do not decide.

    Returns:
        of metric convolutions ``asymmetry`` (||w||_{M^-1}, from 0 to below 1, or 1/2 of 'matsumoto'), ``anisotropy`` (longest over shortest axis of M's ellipse, 1 is round) and
        ``radius`` (of the disk of the unit ball's area, in pixels); of the others ``displacement``: how far, in pixels, taps are from the plain grid.
    """
    if isinstance(layer, MetricConv2d):
        metric = layer.metric(input).unflatten(1, (-1, 5))
        fields = {'asymmetry': drift_norm(metric), 'anisotropy': anisotropy(metric), 'radius': ball_radius(metric, layer.norm)}
    else:
        samples = layer.samples(input)
        fields = {'displacement': (samples.unflatten(1, (-1, layer.taps)) - layer.grid(samples)).norm(dim=3)}
    return {name: field.median().item() for name, field in fields.items()}

"""The samples of a trained layer over an image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..geometry import tangent_ball
from ..layers import AdaptiveConv2d, MetricConv2d, adaptive_layers, recorded_inputs


class LayerBalls(NamedTuple):
    """Where a layer samples, in pixels of its own input."""

    name: str
    centres: np.ndarray
    """(x, y) of the window's centre of every output pixel, ``[Ho, Wo, 2]``"""
    samples: np.ndarray
    """(x, y) of every sample, ``[Ho, Wo, K, 2]``"""
    outlines: np.ndarray | None
    """closed outline of the unit ball, ``[Ho, Wo, 65, 2]``, of metric convolutions"""
    input_size: tuple[int, int]


@torch.no_grad()
def layer_balls(model: nn.Module, image: Tensor, layers: list[str] | None = None) -> list[LayerBalls]:
    """Run ``model`` on one image and record where its adaptive convolutions sample.

    Args:
        image: ``Tensor[1, C, H, W]``, as the model wants it.
        layers: names of adaptive convolutions; None is all of them.

    Raises:
        ValueError: when the model has no adaptive convolution of these names.
    """
    adaptive = adaptive_layers(model)
    chosen = {name: adaptive[name] for name in layers if name in adaptive} if layers is not None else adaptive
    if not chosen or (layers is not None and len(chosen) < len(layers)):
        raise ValueError(f'expected layers among the adaptive convolutions {sorted(adaptive)}, got {layers}')
    training = model.training
    try:
        with recorded_inputs(chosen) as inputs:
            model.eval()(image)
    finally:
        model.train(training)
    return [balls_over(name, chosen[name], inputs[name][-1]) for name in chosen if name in inputs]


@torch.no_grad()
def balls_over(name: str, layer: AdaptiveConv2d, input: Tensor) -> LayerBalls:
    """Where ``layer`` samples ``input``, the ``Tensor[1, C, H, W]`` that it is called with."""
    samples = layer.samples(input)[0].permute(2, 3, 0, 1).cpu().numpy()
    rows, columns = samples.shape[:2]
    padding = [before for before, _ in layer.padded_sides(input)]
    axes = [
        np.arange(count) * stride - pad + dilation * (kernel - 1) / 2
        for count, stride, pad, dilation, kernel in zip((rows, columns), layer.stride, padding, layer.dilation, layer.kernel_size, strict=True)
    ]
    centres = np.stack(np.meshgrid(axes[1], axes[0]), -1)
    outlines = None
    if isinstance(layer, MetricConv2d):
        outlines = centres[:, :, None] + outline(layer.metric(input)[:1, :5], layer.norm)
    return LayerBalls(name, centres, centres[:, :, None] + samples, outlines, (input.shape[2], input.shape[3]))


@torch.no_grad()
def outline(metric: Tensor, norm: str = 'randers', directions: int = 64) -> np.ndarray:
    """The closed boundary of the unit tangent ball at every pixel of ``Tensor[1, 5, H, W]``: (x, y) from there, ``[H, W, directions + 1, 2]``."""
    # a polar support of one ring samples the boundary of the unit ball
    boundary = tangent_ball(metric, 'polar', (1, directions), norm=norm)[0].permute(2, 3, 0, 1).cpu().numpy()
    return np.concatenate([boundary, boundary[:, :, :1]], 2)


def draw_balls(image: np.ndarray, balls: list[LayerBalls], *, every: int = 3, columns: int = 3, title: str | None = None) -> Figure:
    """One panel a layer: its balls and samples over the image.

    Args:
        image: ``[H, W]`` or ``[H, W, 3]``, uint8 or in [0, 1].
        balls: from :func:`layer_balls`.
        every: draw the ball of every so many output pixels along each axis.

    Raises:
        ValueError: for samples that are not finite, as those of a model whose training has diverged.
    """
    broken = [layer.name for layer in balls if not np.isfinite(layer.samples).all()]
    if broken:
        raise ValueError(f'the samples of {", ".join(broken)} are not all finite: the model holds NaN or infinity, take an earlier checkpoint')
    columns = min(columns, len(balls))
    rows = -(-len(balls) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.6 * rows), layout='constrained')
    if title:
        figure.suptitle(title)
    for index, layer in enumerate(balls):
        axes = figure.add_subplot(rows, columns, index + 1)
        height, width = layer.input_size
        axes.imshow(image, cmap='gray', extent=(-0.5, width - 0.5, height - 0.5, -0.5), alpha=0.85)
        colours = np.random.default_rng(0).uniform(0, 1, (*layer.centres.shape[:2],))
        picked = [(i, j) for i in range(0, layer.centres.shape[0], every) for j in range(0, layer.centres.shape[1], every)]
        for i, j in picked:
            colour = colormaps['hsv'](colours[i, j])
            if layer.outlines is not None:
                axes.plot(*layer.outlines[i, j].T, color=colour, linewidth=1.2)
            axes.plot(*layer.samples[i, j].T, '.', color=colour, markersize=4)
        axes.set(title=f'{layer.name}  ({height} x {width})', xlim=(-1.5, width + 0.5), ylim=(height + 0.5, -1.5))
        axes.title.set_fontsize(9)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure

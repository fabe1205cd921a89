"""A trained model whose layers predict the metric."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers import MetricConv2d, adaptive_layers, recorded_inputs
from .fields import Field


class Trained:
    """A model from a config and a checkpoint, and the metric convolutions in it.

    Raises:
        SystemExit: with a message, when there are no such files, they do not fit each other, or mmengine is missing.
        ValueError: when the model has no metric convolution.
    """

    def __init__(self, config: str, checkpoint: str) -> None:
        from ..integrations.mm import trained

        self._trained = trained
        self.cfg, model = trained.load_trained(config, checkpoint)
        self.model: nn.Module = model.eval()
        self.layers = {name: layer for name, layer in adaptive_layers(model).items() if isinstance(layer, MetricConv2d)}
        if not self.layers:
            raise ValueError(f'{config} has no metric convolution, whose metric could be shown: expected some, of the type MetricConv')

    @torch.no_grad()
    def field(self, name: str, image: Tensor) -> tuple[Field, Tensor]:
        """The metric that a layer predicts for ``Tensor[C, H, W]`` in [0, 1], and what the model saw of it, in the same form.

        Raises:
            ValueError: for an unknown layer, and for pictures that the model cannot take.
        """
        if name not in self.layers:
            raise ValueError(f'expected a layer among {sorted(self.layers)}, got {name!r}')
        inputs, seen = self._inputs(image)
        layer = self.layers[name]
        with recorded_inputs({name: layer}) as recorded:
            try:
                self.model(inputs)
            except (RuntimeError, ValueError) as error:
                height, width = seen.shape[1:]
                raise ValueError(f'the model cannot take a picture of {width} x {height} pixels ({error}): choose a larger one') from error
        if name not in recorded:
            raise ValueError(f'layer {name} did not run on this picture: choose another')
        return layer_field(layer, recorded[name][-1], (seen.shape[1], seen.shape[2])), seen

    def seen(self, image: Tensor) -> Tensor:
        """What the model sees of ``Tensor[C, H, W]``, in [0, 1]: resized and cropped as its test pipeline does."""
        return self._inputs(image)[1]

    def _inputs(self, image: Tensor) -> tuple[Tensor, Tensor]:
        first = next(module for module in self.model.modules() if isinstance(module, (nn.Conv2d, MetricConv2d)))
        if first.in_channels == 1 and not hasattr(self.model.data_preprocessor, 'mean'):
            grey = image.mean(0, keepdim=True)
            return grey[None], grey
        picture = (255 * image.expand(3, -1, -1).clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
        sample = self._trained.prepare(self.cfg, self.model, picture)
        seen = torch.from_numpy(self._trained.picture_of(self.model, sample).copy()).permute(2, 0, 1).float() / 255
        return self._trained.input_of(self.model, sample), seen


@torch.no_grad()
def layer_field(layer: MetricConv2d, input: Tensor, picture: tuple[int, int]) -> Field:
    """The metric of a layer's first group for the ``Tensor[1, C, H, W]`` that it is called with, laid over a picture of so many rows and columns."""
    size = (input.shape[2], input.shape[3])
    sides = layer.padded_sides(input)
    # (x, y): pixels of the picture in one of the input
    unit = picture[1] / size[1], picture[0] / size[0]
    first = [layer.dilation[axis] * (layer.kernel_size[axis] - 1) / 2 - sides[axis][0] for axis in (1, 0)]
    return Field(
        metric=layer.metric(input)[:1, :5].float(),
        kernel_size=layer.kernel_size,
        support=layer.support,
        norm=layer.norm,
        origin=((first[0] + 0.5) * unit[0] - 0.5, (first[1] + 0.5) * unit[1] - 0.5),
        pitch=(layer.stride[1] * unit[0], layer.stride[0] * unit[1]),
        unit=unit,
        stride=layer.stride,
        sides=sides,
        dilation=layer.dilation,
        input_size=size,
    )

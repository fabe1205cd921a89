"""A hook that follows the geometry that a model learns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from ....layers import AdaptiveConv2d, adaptive_layers, geometry_statistics, recorded_inputs
from ....surgery import matches
from .common import unwrapped


@HOOKS.register_module()
class GeometryHook(Hook):
    """Writes how every adaptive convolution samples a few fixed images, and draws its unit balls over the first, to the visualizer's backends.

    Scalars are ``geometry/LAYER/asymmetry``, ``anisotropy`` and ``radius`` (of convolutions that are not metric ``displacement``), in medians as
    :func:`~metricconv_mm.layers.geometry_statistics` defines them; the log gets one line, the medians over the layers. The picture is ``unit_balls``.

    Args:
        interval: every so many epochs, after the last iteration; iterations with ``by_epoch=False``.
        draw_interval: draw the balls at every so many of these occasions; None never.
        layers: which to draw, as in :func:`metricconv_mm.surgery.select`; None is all of them.
        images: how many of the validation set, or of the training set where there is none, to measure.
        every: draw the ball of every so many pixels.

    Raises:
        ValueError: for numbers below 1, a model without adaptive convolutions, and ``layers`` that match none.
    """

    def __init__(
        self,
        interval: int = 1,
        by_epoch: bool = True,
        draw_interval: int | None = None,
        layers: str | Sequence[str] | None = None,
        images: int = 8,
        every: int = 3,
    ) -> None:
        for name, value in (('interval', interval), ('draw_interval', draw_interval), ('images', images), ('every', every)):
            if value is not None and value < 1:
                raise ValueError(f'GeometryHook: expected {name} of at least 1, got {name}={value}')
        self.interval, self.by_epoch, self.draw_interval = interval, by_epoch, draw_interval
        self.layers = [layers] if isinstance(layers, str) else layers
        self.images, self.every = images, every
        self._batch: Any = None

    def before_train(self, runner: Any) -> None:
        adaptive = adaptive_layers(unwrapped(runner.model))
        self._drawn = [name for name in adaptive if self.layers is None or any(matches(pattern, name) for pattern in self.layers)]
        if not self._drawn:
            raise ValueError(f'GeometryHook: none of layers={self.layers} is an adaptive convolution: choose from {", ".join(adaptive)}')

    def after_train_epoch(self, runner: Any) -> None:
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self._follow(runner, runner.iter, (runner.epoch + 1) // self.interval)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        if not self.by_epoch and self.every_n_train_iters(runner, self.interval):
            self._follow(runner, runner.iter + 1, (runner.iter + 1) // self.interval)

    @master_only
    def _follow(self, runner: Any, step: int, occasion: int) -> None:
        model = unwrapped(runner.model)
        adaptive = adaptive_layers(model)
        if self._batch is None:
            self._batch = self._fixed_images(runner)
        training = model.training
        model.eval()
        try:
            with torch.no_grad(), recorded_inputs(adaptive) as inputs:
                model.val_step(self._batch)
            self._write(runner, adaptive, inputs, step)
            if self.draw_interval and occasion % self.draw_interval == 0:
                self._draw(runner, adaptive, inputs, step)
        finally:
            model.train(training)

    def _fixed_images(self, runner: Any) -> Any:
        loader = (runner.val_loop or runner.train_loop).dataloader
        return loader.collate_fn([loader.dataset[index] for index in range(min(self.images, len(loader.dataset)))])

    def _write(self, runner: Any, adaptive: dict[str, AdaptiveConv2d], inputs: dict[str, list[Tensor]], step: int) -> None:
        scalars: dict[str, float] = {}
        over_layers: dict[str, list[float]] = {}
        for name, calls in inputs.items():
            measured = [geometry_statistics(adaptive[name], input) for input in calls]
            for key in measured[0]:
                value = statistics.fmean(call[key] for call in measured)
                scalars[f'geometry/{name}/{key}'] = value
                over_layers.setdefault(key, []).append(value)
        runner.visualizer.add_scalars(scalars, step=step)
        medians = ', '.join(f'{key} {statistics.median(values):.3f}' for key, values in over_layers.items())
        runner.logger.info(f'geometry, medians over {len(inputs)} adaptive convolutions: {medians}')

    def _draw(self, runner: Any, adaptive: dict[str, AdaptiveConv2d], inputs: dict[str, list[Tensor]], step: int) -> None:
        # matplotlib takes a while to import
        from ....visualization import balls_over, draw_balls, pixels

        seen = unwrapped(runner.model).data_preprocessor(self._batch, False)['inputs'][0].float()
        low, high = seen.amin(), seen.amax()
        picture = ((seen - low) / (high - low).clamp_min(1e-6)).permute(1, 2, 0).cpu().numpy()
        balls = [balls_over(name, adaptive[name], inputs[name][0][:1]) for name in self._drawn if name in inputs]
        figure = draw_balls(picture if picture.shape[2] == 3 else picture.mean(2), balls, every=self.every, title=f'iteration {step}')
        runner.visualizer.add_image('unit_balls', pixels(figure), step)

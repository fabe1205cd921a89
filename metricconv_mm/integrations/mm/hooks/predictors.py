"""Hooks that restrain the predictors of adaptive convolutions: a penalty, and a warm-up."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from ....layers import adaptive_layers, predictor_l1
from .common import optimizers, unwrapped


@HOOKS.register_module()
class PredictorL1Hook(Hook):
    """Adds ``weight`` * :func:`~metricconv_mm.layers.predictor_l1` to the loss of any model, and shows it in the log as a loss of its own.

    The term joins what ``model(..., mode='loss')`` returns, so mixed precision, gradient accumulation and distributed training treat it as any other.
    ``loss`` in the log is the sum; a model's only loss, if it is called so as in classifiers, is then shown as ``loss_model``.

    Args:
        weight: 5000 is the authors' for CIFAR. The larger, the closer the geometry stays to that of a predictor of zeros.
        name: of the loss in the log; it must contain 'loss', or mmengine would show it without training on it.

    Raises:
        ValueError: for a negative weight, a name without 'loss', or a model without adaptive convolutions.
    """

    def __init__(self, weight: float, name: str = 'loss_predictor_l1') -> None:
        if not weight >= 0:
            raise ValueError(f'PredictorL1Hook: expected a weight of at least 0, got {weight=}')
        if 'loss' not in name:
            raise ValueError(f"PredictorL1Hook: expected a name that contains 'loss', or mmengine does not add it up, got {name=}")
        self.weight, self.name = weight, name
        self._handle: Any = None

    def before_train(self, runner: Any) -> None:
        model = unwrapped(runner.model)
        adaptive_layers(model)  # there are some
        self._handle = model.register_forward_hook(self._add, with_kwargs=True)

    def _add(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        if kwargs.get('mode') != 'loss':
            return output
        # in mmengine's log 'loss' is the sum, unless a term is called so, too
        losses = {('loss_model' if name == 'loss' else name): value for name, value in output.items()}
        return {**losses, self.name: self.weight * predictor_l1(model)}

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        if self.name not in (outputs or {}):
            model = type(unwrapped(runner.model)).__name__
            raise RuntimeError(
                f'PredictorL1Hook: {self.name} is not among the losses {sorted(outputs or {})}: the train_step of {model} '
                "does not call model(..., mode='loss'). Add metricconv_mm.layers.predictor_l1(model) to its loss instead"
            )

    def after_train(self, runner: Any) -> None:
        self._handle.remove()


@HOOKS.register_module()
class PredictorWarmupHook(Hook):
    """Holds the predictors as they are for the first epochs or iterations, then lets them learn; a resumed run does what its epoch says.

    While held, their gradients are zero, so that they count neither in gradient clipping nor in loss scaling, and are taken from the optimizer just
    before it steps: weight decay and momentum then leave the parameters alone, coupled (Adam) or not (AdamW), and their statistics start at the
    release. Distributed training needs no ``find_unused_parameters``, as backward still reaches every parameter.

    The paper instead multiplies the predictors' output by 0, which is another geometry than the one that learning then starts from.

    Args:
        epochs, iterations: for how long; one of the two.

    Raises:
        ValueError: for both or none of them, a negative number, epochs in training that counts iterations, or a model without adaptive convolutions.
    """

    def __init__(self, epochs: int | None = None, iterations: int | None = None) -> None:
        given = [number for number in (epochs, iterations) if number is not None]
        if len(given) != 1 or given[0] < 0:
            raise ValueError(f'PredictorWarmupHook: expected epochs or iterations of at least 0, and not both, got {epochs=}, {iterations=}')
        self.epochs, self.iterations = epochs, iterations
        self._handles: list[Any] = []

    def before_train(self, runner: Any) -> None:
        adaptive_layers(unwrapped(runner.model))  # there are some
        if self.epochs is not None and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError('PredictorWarmupHook: this training counts iterations, not epochs: give iterations=...')

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        hold = runner.epoch < self.epochs if self.epochs is not None else runner.iter < self.iterations
        if hold and not self._handles:
            self._hold(runner)
        elif not hold and self._handles:
            self._release()
            runner.logger.info(f'predictors released at epoch {runner.epoch + 1}, iteration {runner.iter + 1}')

    def _hold(self, runner: Any) -> None:
        layers = adaptive_layers(unwrapped(runner.model)).values()
        held = [parameter for layer in layers for parameter in layer.predictor.parameters() if parameter.requires_grad]

        def take_gradients(*_: Any) -> None:
            for parameter in held:
                parameter.grad = None

        self._handles = [parameter.register_hook(torch.zeros_like) for parameter in held]
        self._handles += [optimizer.register_step_pre_hook(take_gradients) for optimizer in optimizers(runner.optim_wrapper)]
        runner.logger.info(
            f'predictors of {len(layers)} adaptive convolutions held for '
            + (f'{self.epochs} epochs' if self.epochs is not None else f'{self.iterations} iterations')
        )

    def _release(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def after_train(self, runner: Any) -> None:
        self._release()

"""Hooks around checkpoints: parts of a pretrained model to start anew, and what to go back to when the loss is not finite."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ....layers import adaptive_layers
from ....surgery import matches
from .common import unwrapped


@HOOKS.register_module()
class DropPretrainedHook(Hook):
    """Starts layers from their own initialisation, whatever checkpoint ``init_cfg`` or ``load_from`` put into the rest of the model.

    Without this hook the kernels of a checkpoint are kept, also those of layers that have become adaptive. The paper drops them. Layers are
    initialised by their ``reset_parameters``, once, before the first iteration: a resumed run and an evaluation keep what was trained.

    Args:
        layers: names, parts of the model or regular expressions, as in :func:`metricconv_mm.surgery.select`; None is every adaptive convolution.

    Raises:
        ValueError: when one of ``layers`` matches no layer with parameters, or for None in a model without adaptive convolutions.
    """

    # before hooks that look at the parameters
    priority = 'VERY_HIGH'

    def __init__(self, layers: str | Sequence[str] | None = None) -> None:
        self.layers = [layers] if isinstance(layers, str) else layers

    def before_train(self, runner: Any) -> None:
        if runner.iter > 0:
            return
        chosen = self._choose(unwrapped(runner.model))
        for layer in chosen.values():
            layer.reset_parameters()
            for tensor in layer.state_dict().values():
                broadcast(tensor)
        runner.logger.info(f'{len(chosen)} layers start from their own initialisation, not from a checkpoint: {", ".join(chosen)}')

    def _choose(self, model: nn.Module) -> dict[str, Any]:
        if self.layers is None:
            return dict(adaptive_layers(model))
        candidates = {name: module for name, module in model.named_modules() if hasattr(module, 'reset_parameters')}
        chosen: dict[str, Any] = {}
        for pattern in self.layers:
            found = {name: module for name, module in candidates.items() if matches(pattern, name)}
            if not found:
                raise ValueError(f'DropPretrainedHook: no layer matches {pattern!r}: choose from {", ".join(candidates)}')
            chosen |= found
        return chosen


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stops training at a loss that is NaN or infinite, naming the iteration, the terms that are, and the last checkpoint with finite parameters.

    Args:
        interval: look at the loss every so many iterations.

    Raises:
        FloatingPointError: in training, as said.
    """

    def __init__(self, interval: int = 1) -> None:
        if interval < 1:
            raise ValueError(f'InvalidLossHook: expected an interval of at least 1, got {interval=}')
        self.interval = interval

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        losses = {name: torch.as_tensor(value) for name, value in (outputs or {}).items() if 'loss' in name}
        invalid = {name: value for name, value in losses.items() if not value.isfinite().all()}
        if not invalid:
            return
        checkpoint, unusable = last_good_checkpoint(_folder(runner))
        lines = [
            f'the loss is not finite at epoch {runner.epoch + 1}, iteration {runner.iter + 1}: '
            + ', '.join(f'{name} = {value.tolist()}' for name, value in invalid.items()),
            *(f'  not usable: {path} {reason}' for path, reason in unusable),
            f'last good checkpoint: {checkpoint}' if checkpoint else 'there is no good checkpoint: training has to start again',
            'lower the learning rate, clip gradients (optim_wrapper.clip_grad), or hold the predictors back (paramwise_cfg, PredictorWarmupHook)'
            + (f'; go on with --resume {checkpoint}' if checkpoint else ''),
        ]
        message = '\n'.join(lines)
        runner.logger.error(message)  # into the log file, too
        raise FloatingPointError(message)


def _folder(runner: Any) -> Path:
    folders = [hook.out_dir for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return Path(folders[0] if folders and folders[0] else runner.work_dir)


def last_good_checkpoint(folder: Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest checkpoint in ``folder`` that can be read and whose parameters are finite, and the newer ones with the reason against each."""
    unusable: list[tuple[Path, str]] = []
    # the best so far come without the optimizer: one cannot resume from them
    paths = [path for path in folder.glob('*.pth') if not path.name.startswith('best_')]
    for path in sorted(paths, key=_age, reverse=True):
        reason = unusable_checkpoint(path)
        if not reason:
            return path, unusable
        unusable.append((path, reason))
    return None, unusable


def _age(path: Path) -> tuple[int, list[int]]:
    """When it was written; file systems keep that in steps of some milliseconds, so that the numbers in the name decide between equals."""
    return path.stat().st_mtime_ns, [int(number) for number in re.findall(r'\d+', path.name)]


def unusable_checkpoint(path: Path) -> str:
    """Why training cannot go on from the checkpoint, in words that follow its name; '' if it can."""
    try:
        checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger='silent')
    except Exception as error:
        return f'cannot be read, perhaps because it is cut short ({type(error).__name__})'
    if not isinstance(checkpoint, dict) or 'state_dict' not in checkpoint or 'epoch' not in (checkpoint.get('meta') or {}):
        return 'is no checkpoint of a training run'
    state = checkpoint['state_dict']
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    return f'has {len(bad)} tensors that are not finite, {bad[0]} among them' if bad else ''

"""Pretrained weights by config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from ...transfer import load_pretrained


@HOOKS.register_module()
class PretrainedWeights(Hook):
    """Start training from a local file with torchvision's, timm's or mmpretrain's weights: ``custom_hooks=[dict(type='PretrainedWeights', ...)]``.

    Unlike ``load_from``, it finds tensors under the names of the other libraries, refuses the weights of another network, and logs what was loaded,
    dropped and newly initialised. Unlike ``init_cfg``, it loads after every part of the model has initialised itself. A resumed run goes on with
    its own weights.

    Args:
        checkpoint: the file.
        part, drop, keep_kernels: as in :func:`metricconv_mm.transfer.load_pretrained`.
    """

    priority = 'VERY_HIGH'

    def __init__(self, checkpoint: str, part: str | None = None, drop: str | Sequence[str] = (), keep_kernels: bool = True) -> None:
        self.checkpoint = checkpoint
        self.options: dict[str, Any] = {'part': part, 'drop': drop, 'keep_kernels': keep_kernels}

    def before_train(self, runner: Any) -> None:
        if runner.iter > 0:
            runner.logger.info(f'training goes on with its own weights, not with those of {self.checkpoint}')
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        runner.logger.info(f'{self.checkpoint}: {load_pretrained(model, self.checkpoint, **self.options)}')

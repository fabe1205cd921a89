"""Pretrained weights by config."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from ...transfer import load_pretrained

#: torchvision's names end with the beginning of the file's hash, and all lie in one place
TORCHVISION = re.compile(r'\w+-[0-9a-f]{8}\.pth')
TORCHVISION_URL = 'https://download.pytorch.org/models/'


@HOOKS.register_module()
class PretrainedWeights(Hook):
    """Start training from a local file with torchvision's, timm's or mmpretrain's weights: ``custom_hooks=[dict(type='PretrainedWeights', ...)]``.

    Unlike ``load_from``, it finds tensors under the names of the other libraries, refuses the weights of another network, and logs what was loaded,
    dropped and newly initialised. Unlike ``init_cfg``, it loads after every part of the model has initialised itself. A resumed run goes on with
    its own weights. Nothing is downloaded.

    Args:
        checkpoint: the file.
        part, drop, keep_kernels: as in :func:`metricconv_mm.transfer.load_pretrained`.

    Raises:
        FileNotFoundError: in training, when there is no such file: how to get it, and which option names another.
        ValueError: as load_pretrained.
    """

    priority = 'VERY_HIGH'

    def __init__(self, checkpoint: str, part: str | None = None, drop: str | Sequence[str] = (), keep_kernels: bool = True) -> None:
        self.checkpoint = checkpoint
        self.options: dict[str, Any] = {'part': part, 'drop': drop, 'keep_kernels': keep_kernels}

    def before_train(self, runner: Any) -> None:
        if runner.iter > 0:
            runner.logger.info(f'training goes on with its own weights, not with those of {self.checkpoint}')
            return
        if not Path(self.checkpoint).expanduser().is_file():
            raise FileNotFoundError(self._remedy(runner))
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        runner.logger.info(f'{self.checkpoint}: {load_pretrained(model, self.checkpoint, **self.options)}')

    def _remedy(self, runner: Any) -> str:
        path = Path(self.checkpoint).expanduser()
        get = 'Put it there'
        if TORCHVISION.fullmatch(path.name):
            get += f', for example by curl -L --create-dirs -o {path} {TORCHVISION_URL}{path.name}'
        return (
            f'PretrainedWeights: no checkpoint {self.checkpoint!r} (that is {path.resolve()}). {get}; '
            f'or give the path of your copy: --cfg-options {_option(getattr(runner, "cfg", {}))}=FILE'
        )


def _option(cfg: Mapping[str, Any]) -> str:
    """What --cfg-options calls the checkpoint of the hook in this config."""
    hooks = [(f'default_hooks.{name}', hook) for name, hook in (cfg.get('default_hooks') or {}).items()]
    hooks += [(f'custom_hooks.{index}', hook) for index, hook in enumerate(cfg.get('custom_hooks') or [])]
    found = [key for key, hook in hooks if isinstance(hook, Mapping) and str(hook.get('type')).endswith(PretrainedWeights.__name__)]
    return f'{found[0] if found else "custom_hooks.0"}.checkpoint'

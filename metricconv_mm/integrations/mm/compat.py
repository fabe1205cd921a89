"""What keeps the OpenMMLab stacks from working on current torch, and on machines without a GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader, load_from_local


def _load_own_checkpoint(filename: str, map_location: Any = None, logger: Any = None) -> Any:
    """Local checkpoints hold mmengine's message hub, which torch.load's weights_only default refuses."""
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'{filename} can not be found: no such checkpoint')
    return torch.load(path, map_location=map_location, weights_only=False)


def _refuses_history() -> bool:
    """Whether this mmengine leaves torch.load to its default."""
    return 'weights_only' not in load_from_local.__code__.co_names and 'weights_only' not in load_from_local.__code__.co_consts.__repr__()


def apply() -> None:
    """Let ``--resume``, ``load_from`` and tools/test.py read checkpoints that mmengine itself has written. Safe to call again."""
    if _refuses_history():
        CheckpointLoader.register_scheme(prefixes='', loader=_load_own_checkpoint, force=True)


def prepare_distributed_cpu(cfg: Any) -> None:
    """Make a launched run work without a GPU: mmengine would call torch.cuda.set_device and hand device ids to DDP.

    Does nothing when a GPU is there, or when the process was not started by torchrun.
    """
    if torch.cuda.is_available() or cfg.get('launcher', 'none') == 'none' or 'RANK' not in os.environ:
        return
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend='gloo')
    cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'
    cfg.setdefault('model_wrapper_cfg', {'type': 'MMDistributedDataParallel', 'device_ids': None})

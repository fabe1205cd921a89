"""What keeps the OpenMMLab stacks from working on current torch, and on machines without a GPU."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import checkpoint


def _load_checkpoint(filename: str, map_location: Any = None, logger: Any = None) -> Any:
    """Weights alone if the file holds no more; mmengine's own checkpoints hold its log as well, which torch.load refuses by default."""
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'{filename} can not be found: no such checkpoint')
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError:
        return torch.load(path, map_location=map_location, weights_only=False)


def apply() -> None:
    """Let ``--resume``, ``load_from`` and tools/test.py read checkpoints that mmengine itself has written. Safe to call again."""
    handles_it_itself = hasattr(checkpoint, '_safe_torch_load')
    if not handles_it_itself:
        checkpoint.CheckpointLoader.register_scheme(prefixes='', loader=_load_checkpoint, force=True)


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

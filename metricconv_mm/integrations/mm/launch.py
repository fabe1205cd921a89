"""What tools/train.py and tools/test.py share: from the command line and a config to a runner."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from .compat import prepare_distributed_cpu
from .hooks.checkpoints import last_good_checkpoint, unusable_checkpoint

CONFIG_SUFFIXES = ('.py', '.json', '.yaml', '.yml')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that training and testing have in common, with mmpretrain's names."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--amp', action='store_true', help='mixed precision; bfloat16 autocast where there is no GPU')
    parser.add_argument('--no-pin-memory', action='store_true', help='do not pin the memory of dataloaders')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override entries of the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='what started the processes')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def read_config(path: str) -> Config:
    """A config file; exits with a message if there is none, or it is something else."""
    if not Path(path).is_file():
        sys.exit(f'no config {path!r}: see configs/ for those of this project')
    if Path(path).suffix not in CONFIG_SUFFIXES:
        sys.exit(f'{path} is no config: expected a file that ends in one of {", ".join(CONFIG_SUFFIXES)}')
    return Config.fromfile(path)


def load_config(args: argparse.Namespace) -> Config:
    """The config with the common options merged in; exits with a message if there is no such file."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    pin = torch.cuda.is_available() and not args.no_pin_memory
    for field in LOADERS:
        if cfg.get(field) is not None:
            loader = cfg[field]
            loader.setdefault('pin_memory', pin)
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)
            loader.setdefault('collate_fn', dict(type='default_collate'))
            if args.no_pin_memory:
                loader.pin_memory = False
    return cfg


def finish_config(cfg: Config, args: argparse.Namespace) -> Config:
    """Apply --cfg-options last, and what a run without a GPU needs."""
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    for field in LOADERS:
        if cfg.get(field) is not None and cfg[field].get('num_workers', 0) == 0:
            cfg[field].persistent_workers = False
    prepare_distributed_cpu(cfg)
    return cfg


def choose_resumed(cfg: Config) -> Config:
    """Where ``--resume`` goes on: at the newest checkpoint of the run that is whole, saying which are passed over. Exits where none is left."""
    if not cfg.get('resume'):
        return cfg
    if named := cfg.get('load_from'):
        # mmengine has its word on URLs
        if Path(named).is_file() and (problem := unusable_checkpoint(Path(named))):
            good, _ = last_good_checkpoint(Path(named).parent)
            sys.exit(
                f'--resume: {named} {problem}. ' + (f'Resume from {good}' if good else 'There is no other beside it: train again from the start')
            )
        return cfg
    record = Path(cfg.work_dir) / 'last_checkpoint'
    # which is in the work folder, and tells where the checkpoints are
    latest = Path(record.read_text().strip()) if record.is_file() else None
    folder = latest.parent if latest is not None and latest.parent.is_dir() else Path(cfg.work_dir)
    good, unusable = last_good_checkpoint(folder)
    for path, reason in unusable:
        print(f'--resume: {path} is passed over: it {reason}')
    if good:
        print(f'--resume: training goes on from {good}')
        cfg.load_from = str(good)
    elif latest is not None:
        sys.exit(f'--resume: {folder} holds no checkpoint to go on from: to train again from the start, remove it or choose another folder')
    return cfg


def build_runner(cfg: Config) -> Any:
    """mmengine's Runner, or the one that the config's runner_type names."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def require_own_checkpoint(model: nn.Module, filename: str) -> None:
    """Exit, naming what differs, unless the checkpoint is one of this very model: mmengine would evaluate whatever part of it fits."""
    try:
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location='cpu', logger='silent')
        found = dict(checkpoint.get('state_dict', checkpoint))
    except Exception as error:
        sys.exit(f'{filename} is no checkpoint that torch can read: {type(error).__name__}: {error}')
    wanted = {name.removeprefix('module.'): tensor for name, tensor in model.state_dict().items()}
    found = {name.removeprefix('module.'): tensor for name, tensor in found.items()}
    differences = {
        'missing': [name for name in wanted if name not in found],
        'unexpected': [name for name in found if name not in wanted],
        'of another shape': [name for name in wanted if name in found and getattr(found[name], 'shape', None) != wanted[name].shape],
    }
    lines = [f'  {len(names)} {kind}: {", ".join(names[:3])}{", ..." if len(names) > 3 else ""}' for kind, names in differences.items() if names]
    if lines:
        sys.exit(
            '\n'.join([f'{filename} is a checkpoint of another model than the config describes:', *lines, 'Give the config it was trained with'])
        )

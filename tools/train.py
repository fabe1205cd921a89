#!/usr/bin/env python
"""Train a model: python tools/train.py CONFIG [options]."""

import argparse
import sys
from pathlib import Path

import torch

from metricconv_mm.integrations.mm import launch


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT', help='resume from it, or from the latest in the work folder')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--auto-scale-lr', action='store_true', help="scale the learning rate with the batch size (the config's auto_scale_lr)")
    parser.add_argument('--no-persistent-workers', action='store_true', help='start the workers of dataloaders anew every epoch')
    launch.add_common_arguments(parser)
    return parser.parse_args(arguments)


def merge(cfg, args):
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.default_hooks.get('checkpoint', {}).pop('save_best', None)
    if args.amp and torch.cuda.is_available():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    elif args.amp:
        cfg.optim_wrapper.type = 'CpuAmpOptimWrapper'
        print('--amp: no GPU here, so training runs under bfloat16 autocast on the CPU')
    if args.resume is not None:
        if args.resume != 'auto' and not Path(args.resume).is_file() and '://' not in args.resume:
            sys.exit(f'no checkpoint {args.resume!r} to resume from')
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            sys.exit('--auto-scale-lr: the config has no auto_scale_lr = dict(base_batch_size=...)')
        cfg.auto_scale_lr.enable = True
    if args.no_persistent_workers:
        for field in launch.LOADERS:
            if cfg.get(field) is not None:
                cfg[field].persistent_workers = False
    return cfg


def main():
    args = parse_arguments()
    cfg = launch.choose_resumed(launch.finish_config(merge(launch.load_config(args), args), args))
    launch.build_runner(cfg).train()


if __name__ == '__main__':
    main()

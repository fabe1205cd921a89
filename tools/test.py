#!/usr/bin/env python
"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT [options]."""

import argparse
import sys
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import ConfigDict
from mmengine.evaluator import DumpResults

from metricconv_mm.integrations.mm import launch

FORMATS = {'pred': ['.pkl', '.pickle'], 'metrics': ['.json', '.yaml', '.yml', '.pkl', '.pickle']}


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='file for predictions (.pkl) or metrics (.json, .yaml, .pkl)')
    parser.add_argument('--out-item', choices=['metrics', 'pred'], help='what to write to --out (default: pred)')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument('--interval', type=int, default=1, help='draw every so many samples')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays')
    parser.add_argument('--tta', action='store_true', help="test-time augmentation: the config's tta_model and tta_pipeline, or flips")
    launch.add_common_arguments(parser)
    args = parser.parse_args(arguments)
    if args.out_item and not args.out:
        parser.error('--out-item says what to write to --out: give --out FILE')
    formats = FORMATS[args.out_item or 'pred']
    if args.out and Path(args.out).suffix not in formats:
        parser.error(f'--out: {args.out_item or "pred"} is written as {" or ".join(formats)}, got {args.out!r}')
    return args


def merge(cfg, args):
    if not Path(args.checkpoint).is_file() and '://' not in args.checkpoint:
        sys.exit(f'no checkpoint {args.checkpoint!r}')
    cfg.load_from = args.checkpoint
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir:
        hook = cfg.default_hooks.setdefault('visualization', dict(type='VisualizationHook'))
        hook.update(enable=True, show=args.show, wait_time=args.wait_time, out_dir=args.show_dir, interval=args.interval)
    if args.tta:
        pipeline = cfg.test_dataloader.dataset.pipeline
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        default = [*deepcopy(pipeline[:-1]), dict(type='TestTimeAug', transforms=[flips, [pipeline[-1]]])]
        cfg.test_dataloader.dataset.pipeline = cfg.get('tta_pipeline', default)
        cfg.model = ConfigDict(**cfg.get('tta_model', dict(type='mmpretrain.AverageClsScoreTTA')), module=cfg.model)
    return cfg


def main():
    args = parse_arguments()
    cfg = launch.finish_config(merge(launch.load_config(args), args), args)
    runner = launch.build_runner(cfg)
    if args.out and args.out_item != 'metrics':
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    launch.require_own_checkpoint(runner.model, args.checkpoint)
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    main()

#!/usr/bin/env python
"""Draw where the adaptive convolutions of a trained model sample: python tools/draw_balls.py CONFIG CHECKPOINT --out balls.png."""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import load_checkpoint

from metricconv_mm.integrations.mm import launch
from metricconv_mm.visualization import draw_balls, layer_balls


def parse_arguments():
    parser = argparse.ArgumentParser(description='Draw the unit balls of a trained model over one image of its test set')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--index', type=int, default=0, help='which test image (default: 0)')
    parser.add_argument('--layers', nargs='+', help='names of adaptive convolutions (default: all)')
    parser.add_argument('--every', type=int, default=3, help='draw the ball of every so many pixels (default: 3)')
    parser.add_argument('--out', default='balls.png', help='picture to write (default: balls.png)')
    return parser.parse_args()


def main():
    args = parse_arguments()
    if not Path(args.config).is_file():
        sys.exit(f'no config {args.config!r}')
    if args.every < 1:
        sys.exit(f'--every: expected at least 1, got {args.every}')
    if not Path(args.checkpoint).is_file():
        sys.exit(f'no checkpoint {args.checkpoint!r}')
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    if not 0 <= args.index < len(dataset):
        sys.exit(f'--index {args.index}: the test set has images 0 to {len(dataset) - 1}')
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model).eval()
    launch.require_own_checkpoint(model, args.checkpoint)
    load_checkpoint(model, args.checkpoint, map_location='cpu')
    sample = dataset[args.index]
    with torch.no_grad():
        batch = model.data_preprocessor(default_collate([sample]))
    picture = sample['inputs'].permute(1, 2, 0).numpy()
    label = dataset.metainfo['classes'][int(sample['data_samples'].gt_label)]
    figure = draw_balls(picture, layer_balls(model, batch['inputs'], args.layers), every=args.every, title=f'{Path(args.config).stem}: {label}')
    figure.savefig(args.out, dpi=110)
    print(f'unit balls: {args.out}')


if __name__ == '__main__':
    main()

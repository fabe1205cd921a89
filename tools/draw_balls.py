#!/usr/bin/env python
"""Draw where the adaptive convolutions of a trained model sample: python tools/draw_balls.py CONFIG CHECKPOINT --out balls.png."""

import argparse
import sys
from pathlib import Path

from metricconv_mm.integrations.mm import trained
from metricconv_mm.visualization import check_figure, draw_balls, layer_balls, read_picture, save_figure


def parse_arguments():
    parser = argparse.ArgumentParser(description='Draw the unit balls of a trained model over an image of its test set, or over any picture')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--index', type=int, default=0, help='which test image (default: 0)')
    what.add_argument('--image', metavar='FILE', help='a picture instead, resized as the test pipeline of the config does, if it does')
    parser.add_argument('--size', nargs='+', type=int, metavar='N', help='height and width to resize the picture to first')
    parser.add_argument('--layers', nargs='+', help='names of adaptive convolutions (default: all)')
    parser.add_argument('--every', type=int, default=3, help='draw the ball of every so many pixels (default: 3)')
    parser.add_argument('--out', default='balls.png', help='picture to write (default: balls.png)')
    args = parser.parse_args()
    if args.every < 1:
        parser.error(f'--every: expected at least 1, got {args.every}')
    if args.size and (not args.image or len(args.size) > 2 or not 1 <= min(args.size) <= max(args.size) <= 10_000):
        parser.error('--size: expected one or two numbers from 1 to 10000, and --image')
    return args


def main():
    args = parse_arguments()
    try:
        check_figure(args.out)
        cfg, model = trained.load_trained(args.config, args.checkpoint)
        if args.image:
            sample, title = trained.prepare(cfg, model, read_picture(args.image, args.size)), Path(args.image).name
        else:
            dataset = trained.test_set(cfg)
            sample = trained.image_of(dataset, args.index)
            title = dataset.metainfo['classes'][int(sample['data_samples'].gt_label)]
        balls = layer_balls(model, trained.input_of(model, sample), args.layers)
        figure = draw_balls(trained.picture_of(model, sample), balls, every=args.every, title=f'{Path(args.config).stem}: {title}')
        save_figure(figure, args.out)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    print(f'unit balls: {args.out}')


if __name__ == '__main__':
    main()

#!/usr/bin/env python
"""Look for a learning rate: python tools/lr_finder.py CONFIG --low 1e-6 --high 10 --out lr.png."""

import argparse
import sys
import tempfile
from functools import partial

from tqdm import tqdm

from metricconv_mm.integrations.mm import launch
from metricconv_mm.integrations.mm.lr_finder import range_test
from metricconv_mm.visualization import check_figure, draw_range_test, save_figure


def parse_arguments():
    parser = argparse.ArgumentParser(description='Train a few steps at growing learning rates, draw the loss and suggest a rate')
    parser.add_argument('config', help='config file')
    parser.add_argument('--low', type=float, default=1e-6, help='least learning rate (default: 1e-6)')
    parser.add_argument('--high', type=float, default=10.0, help='largest learning rate (default: 10)')
    parser.add_argument('--iterations', type=int, default=100, help='one batch each (default: 100)')
    parser.add_argument('--out', default='lr.png', help='picture to write (default: lr.png)')
    launch.add_common_arguments(parser)
    return parser.parse_args()


def find(args):
    check_figure(args.out)
    with tempfile.TemporaryDirectory() as scratch:
        # a test of the rate leaves no run behind
        args.work_dir = args.work_dir or scratch
        cfg = launch.finish_config(launch.load_config(args), args)
        cfg.log_level = 'WARNING'
        if cfg.get('visualizer'):
            # TensorBoard would write in a thread of its own to the folder that is gone
            cfg.visualizer.vis_backends = []
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
        runner = launch.build_runner(cfg)
        progress = partial(tqdm, desc='learning rates', leave=False, disable=None)
        loader = runner.build_dataloader(cfg.train_dataloader)
        optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
        test = range_test(runner.model, loader, optim_wrapper, args.low, args.high, args.iterations, progress=progress)
    save_figure(draw_range_test(test.rates, test.losses, test.smoothed, test.suggestion), args.out)
    return test


def main():
    args = parse_arguments()
    try:
        test = find(args)
    except (ValueError, FloatingPointError, FileNotFoundError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: nothing was written')
    if test.diverged:
        print(f'stopped at {test.rates[-1]:.3g}, where the loss grew beyond bounds')
    if test.suggestion is None:
        print('no suggestion: the loss does not fall; try other --low and --high')
    else:
        print(f'suggestion: {test.suggestion:.3g}, where the loss falls most steeply')
    print(f'loss over learning rate: {args.out}')


if __name__ == '__main__':
    main()

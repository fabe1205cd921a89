#!/usr/bin/env python
"""Plot the training curves of runs: python tools/plot_curves.py WORK_DIR [WORK_DIR ...] --out curves.png."""

import argparse
import sys

from metricconv_mm.visualization import draw_curves, group_seeds, read_scalars, save_figure


def main():
    parser = argparse.ArgumentParser(description='Plot training loss and accuracy of runs; folders seed_0, seed_1 ... of one folder become one curve')
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='work folder of a run')
    parser.add_argument('--keys', nargs='+', metavar='KEY', help='what to plot (default: loss and accuracy/top1); a wrong one lists what there is')
    parser.add_argument('--log', nargs='+', default=[], metavar='KEY', help='keys with a logarithmic axis')
    parser.add_argument('--labels', nargs='+', metavar='NAME', help='names of the curves (default: what tells the folders apart)')
    parser.add_argument('--out', default='curves.png', help='picture to write (default: curves.png)')
    args = parser.parse_args()
    try:
        groups = group_seeds(args.work_dirs)
        labels = args.labels or list(groups)
        if len(labels) != len(groups) or len(set(labels)) < len(labels):
            sys.exit(f'--labels: expected {len(groups)} different names, for {", ".join(groups)}, got {", ".join(labels)}')
        runs = {label: [read_scalars(folder) for folder in folders] for label, folders in zip(labels, groups.values(), strict=True)}
        save_figure(draw_curves(runs, args.keys, log=args.log), args.out)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    print(f'training curves: {args.out}')


if __name__ == '__main__':
    main()

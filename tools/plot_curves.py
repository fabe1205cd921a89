#!/usr/bin/env python
"""Plot the training curves of one or more runs: python tools/plot_curves.py WORK_DIR [WORK_DIR ...] --out curves.png."""

import argparse
import sys
from pathlib import Path

from metricconv_mm.visualization import draw_curves, read_scalars


def main():
    parser = argparse.ArgumentParser(description='Plot training loss and accuracy of one or more runs')
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='work folder of a run')
    parser.add_argument('--out', default='curves.png', help='picture to write (default: curves.png)')
    args = parser.parse_args()
    try:
        runs = {Path(folder).name: read_scalars(folder) for folder in args.work_dirs}
    except FileNotFoundError as error:
        sys.exit(str(error))
    draw_curves(runs).savefig(args.out, dpi=110)
    print(f'training curves: {args.out}')


if __name__ == '__main__':
    main()

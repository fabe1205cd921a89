#!/usr/bin/env python
"""Draw the unit balls of every metric for the same M and w: python tools/draw_norms.py --out norms.png."""

import argparse
import sys

import torch

from metricconv_mm.visualization import draw_norms, save_figure


def main():
    parser = argparse.ArgumentParser(description='Draw the unit balls of every metric for the same M and w')
    parser.add_argument('--matrix', type=float, nargs=3, default=[0.9, 0.35, 0.5], metavar=('XX', 'XY', 'YY'), help='M (default: 0.9 0.35 0.5)')
    parser.add_argument('--drift', type=float, nargs=2, default=[1.0, 0.0], metavar=('X', 'Y'), help='direction of w (default: 1 0)')
    parser.add_argument('--out', default='norms.png', help='picture to write (default: norms.png)')
    args = parser.parse_args()
    matrix, drift = torch.tensor(args.matrix, dtype=torch.float64), torch.tensor(args.drift, dtype=torch.float64)
    try:
        save_figure(draw_norms(matrix, drift), args.out)
    except ValueError as error:
        sys.exit(str(error))
    print(f'unit balls: {args.out}')


if __name__ == '__main__':
    main()

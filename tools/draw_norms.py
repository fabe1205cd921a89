#!/usr/bin/env python
"""Draw the unit balls of every metric for the same M and w: python tools/draw_norms.py --out norms.png."""

import argparse

import torch

from metricconv_mm.geometry import is_positive
from metricconv_mm.visualization import draw_norms


def main():
    parser = argparse.ArgumentParser(description='Draw the unit balls of every metric for the same M and w')
    parser.add_argument('--matrix', type=float, nargs=3, default=[0.9, 0.35, 0.5], metavar=('XX', 'XY', 'YY'), help='M (default: 0.9 0.35 0.5)')
    parser.add_argument('--drift', type=float, nargs=2, default=[1.0, 0.0], metavar=('X', 'Y'), help='direction of w (default: 1 0)')
    parser.add_argument('--out', default='norms.png', help='picture to write (default: norms.png)')
    args = parser.parse_args()
    matrix, drift = torch.tensor(args.matrix, dtype=torch.float64), torch.tensor(args.drift, dtype=torch.float64)
    if not is_positive(torch.cat([matrix, 0 * drift]).view(5, 1, 1)):
        parser.error(f'--matrix {args.matrix}: expected a positive definite one, XX > 0 and XX YY > XY^2')
    if not drift.any():
        parser.error('--drift 0 0: expected a direction')
    draw_norms(matrix, drift).savefig(args.out, dpi=110)
    print(f'unit balls: {args.out}')


if __name__ == '__main__':
    main()

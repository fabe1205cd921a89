#!/usr/bin/env python
"""Draw the unit balls of an image's gradient metric at chosen pixels: python tools/draw_pixel_balls.py IMAGE --pixels 83,50 --out balls.png."""

import argparse
import sys
from pathlib import Path

from metricconv_mm.denoising import GEODESIC_FIGURE, GEODESIC_METRIC, Settings, gradient_metric_of, reflected
from metricconv_mm.geometry.flow import flow_of
from metricconv_mm.visualization import (
    check_figure,
    check_pixels,
    displayable,
    draw_pixel_balls,
    geodesic_outlines,
    read_image,
    save_figure,
    tangent_outlines,
)

KINDS = ('tangent', 'geodesic')


def pixel(text):
    try:
        row, column = (int(part) for part in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected ROW,COLUMN, two integers, got {text!r}') from None
    return row, column


def parse_arguments():
    heat, flow = ([GEODESIC_FIGURE[f'{name}_{what}'] for what in ('step', 'time')] for name in ('heat', 'flow'))
    shape = list(GEODESIC_METRIC.values())
    parser = argparse.ArgumentParser(description="Draw the unit tangent and geodesic balls of an image's gradient metric at chosen pixels (Fig. 5)")
    parser.add_argument('image', help='image file, grey or colour, of any size')
    parser.add_argument('--pixels', type=pixel, nargs='+', required=True, metavar='ROW,COLUMN', help='where, counted from the top left corner, 0,0')
    parser.add_argument('--taus', type=float, nargs='+', default=[0.0, 0.5, 0.9], help='asymmetries, in [0, 1) (default: 0 0.5 0.9)')
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=KINDS, help='of balls (default: both)')
    for name, iota, anisotropy in (('tangent', 10.0, 10.0), ('geodesic', *shape)):
        parser.add_argument(
            f'--{name}-metric', type=float, nargs=2, default=[iota, anisotropy], metavar=('IOTA', 'ANISOTROPY'),
            help=f'squared radius where the image is flat, and how much stronger edges stretch the ball (default: {iota:g} {anisotropy:g})',
        )  # fmt: skip
    for name, default in (('heat', heat), ('flow', flow)):
        parser.add_argument(
            f'--{name}', type=float, nargs=2, default=default, metavar=('STEP', 'TIME'),
            help=f'step and time of the {name} of geodesic balls (default: {default[0]:g} {default[1]:g})',
        )  # fmt: skip
    parser.add_argument('--stencil-scale', type=float, default=2.0, help='size of the tangent ball that flows to the geodesic one (default: 2)')
    parser.add_argument('--out', default='balls.png', help='picture to write (default: balls.png)')
    return parser.parse_args()


def outlines_of(kind, image, tau, args):
    iota, anisotropy = args.tangent_metric if kind == 'tangent' else args.geodesic_metric
    settings = Settings(taus=args.taus, iota=iota, anisotropy=anisotropy)
    if kind == 'tangent':
        return tangent_outlines(gradient_metric_of(image, settings, tau)[:1], args.pixels)
    wider, margin = reflected(image)
    pixels = [(row + margin, column + margin) for row, column in args.pixels]
    return geodesic_outlines(gradient_metric_of(wider, settings, tau)[:1], pixels, stencil_scale=args.stencil_scale, **flow_arguments(args))


def flow_arguments(args):
    return dict(zip(('heat_step', 'heat_time', 'flow_step', 'flow_time'), (*args.heat, *args.flow), strict=True))


def main():
    args = parse_arguments()
    try:
        check_figure(args.out)
        image = read_image(args.image)
        check_pixels(args.pixels, *image.shape[1:])
        flow_of(**flow_arguments(args))
        # one field at a time: those of a large image are larger than the image
        balls = {kind: {f'tau {tau:g}': outlines_of(kind, image.unsqueeze(1), tau, args) for tau in args.taus} for kind in args.kinds}
        save_figure(draw_pixel_balls(displayable(image), args.pixels, balls, title=Path(args.image).name), args.out)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f'unit balls: {args.out}')


if __name__ == '__main__':
    main()

#!/usr/bin/env python
"""Filter an image with every kind of convolution, nothing learnt: python tools/filter_image.py IMAGE --out filtered.png."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from metricconv_mm.denoising import FILTERS, Settings, apply_filters, check_sigma, gaussian_noise, psnr
from metricconv_mm.visualization import check_figure, draw_panels, read_image, save_figure


def parse_arguments():
    parser = argparse.ArgumentParser(description='Add noise to an image and filter it with every kind of convolution, all with uniform weights')
    parser.add_argument('image', help='image file, grey or colour')
    parser.add_argument('--sigma', type=float, default=0.1, help='standard deviation of the noise for grey levels in [0, 1] (default: 0.1)')
    parser.add_argument('--seed', type=int, default=42, help='seed of the noise and of random offsets (default: 42)')
    parser.add_argument('--noise', choices=['cpu', 'cuda'], default='cpu', help="whose random numbers: torch's on a CPU or on a GPU (default: cpu)")
    parser.add_argument('--kernel-size', type=int, default=11, help='k of k x k samples, odd (default: 11)')
    parser.add_argument('--taus', type=float, nargs='+', default=[0.0, 0.5, 0.9], help='asymmetries, in [0, 1) (default: 0 0.5 0.9)')
    parser.add_argument('--filters', nargs='+', choices=list(FILTERS), help='which to apply (default: all)')
    parser.add_argument('--iota', type=float, default=10.0, help='squared radius of tangent balls where the image is flat (default: 10)')
    parser.add_argument('--anisotropy', type=float, default=100.0, help='how much stronger edges stretch tangent balls (default: 100)')
    parser.add_argument('--out', default='filtered.png', help='picture to write (default: filtered.png)')
    return parser.parse_args()


def filter_all(clean, args, settings):
    noisy = clean + args.sigma * gaussian_noise(clean.shape, args.seed, generator=args.noise)[0]
    panels = [('clean', clean), (f'noisy: {psnr(noisy, clean):.2f} dB', noisy)]
    print(f'{"noisy":<30}{psnr(noisy, clean):8.3f} dB')
    for label, image in tqdm(apply_filters(noisy, settings, args.filters), desc='filters', leave=False, disable=None):
        tqdm.write(f'{label:<30}{psnr(image, clean):8.3f} dB', file=sys.stdout)
        panels.append((f'{label}: {psnr(image, clean):.2f} dB', image))
    return panels


def main():
    args = parse_arguments()
    try:
        check_figure(args.out)
        clean = read_image(args.image)
        check_sigma(args.sigma)
        settings = Settings(args.kernel_size, args.taus, args.iota, args.anisotropy, seed=args.seed)
        panels = filter_all(clean, args, settings)
        title = f'{Path(args.image).name}, sigma {args.sigma:g}, {args.kernel_size} x {args.kernel_size} samples'
        save_figure(draw_panels(panels, title=title), args.out)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f'filtered images: {args.out}')


if __name__ == '__main__':
    main()

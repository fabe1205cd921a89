#!/usr/bin/env python
"""Learn where to sample one noisy image, pixel by pixel (Tables 1, 6 and 7 of the paper): python tools/learn_image.py IMAGE --out FOLDER."""

import argparse
import hashlib
import pickle
import sys
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from metricconv_mm.denoising import PixelwiseDeform, PixelwiseMetric, check_kernel, check_sigma, gaussian_noise, generalisation_gap, learn, psnr_of
from metricconv_mm.denoising.tables import Results, comparison, load_paper, paper_value
from metricconv_mm.visualization import draw_learning, read_image

PAPER = Path(__file__).resolve().parents[1] / 'configs/denoising/paper.json'
PAPER_PIXELS = 256 * 256
METHODS = {
    'deform': lambda image, k: PixelwiseDeform(image, k),
    'metric-0.9': lambda image, k: PixelwiseMetric(image, k, 0.9),
    'metric-0.1': lambda image, k: PixelwiseMetric(image, k, 0.1),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description='Learn sample locations on one noisy image and test them on the same scene with other noise')
    parser.add_argument('image', help='image file; colour is turned into grey')
    parser.add_argument('--out', default='learn_image', help='folder for results and figures; finished runs in it are kept (default: learn_image)')
    parser.add_argument('--methods', nargs='+', choices=list(METHODS), default=list(METHODS), help='metric-E has eps_w = E (default: all)')
    parser.add_argument('--sigmas', type=float, nargs='+', default=[0.1, 0.3, 0.5], help='standard deviations of the noise (default: 0.1 0.3 0.5)')
    parser.add_argument('--kernel-sizes', type=int, nargs='+', default=[5, 11, 31], help='odd; the paper has 5 11 31 51 121 (default: 5 11 31)')
    parser.add_argument('--iterations', type=int, default=100, help='steps of gradient descent (default: 100)')
    parser.add_argument('--lr', type=float, help="learning rate (default: the paper's, which is known for its sigmas and kernel sizes)")
    parser.add_argument('--seed', type=int, default=42, help='seed of the noise (default: 42)')
    parser.add_argument(
        '--noise', choices=['cuda', 'cpu'], default='cuda', help='random numbers of a GPU, as in the paper, or of a CPU (default: cuda)'
    )
    parser.add_argument('--test-every', type=int, default=1, help='test at every so many iterations (default: 1)')
    return parser.parse_args()


def learning_rate(args, paper, sigma, method, k, pixels):
    if args.lr is not None:
        return args.lr
    rate = paper_value(paper, 'lr', sigma, method, k)
    if rate is None:
        raise ValueError(f'the paper has no learning rate for {method}, sigma {sigma:g} and kernel size {k}: give one with --lr')
    # the loss is a mean over the pixels, so that the gradient of one pixel's parameters shrinks as their number grows
    return rate * pixels / PAPER_PIXELS


def digest(image):
    """What tells an image from others of its size."""
    return hashlib.sha256(image.numpy().tobytes()).hexdigest()[:16]


def pictures_of(results, name):
    return results.folder / f'{name}.pt'


def read_pictures(path):
    try:
        return torch.load(path)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f'{path} holds no pictures of a run ({type(error).__name__}): remove it to run it again') from error


def run(args, results, rate, clean, sigma, method, k):
    """One cell of the table: from the folder if it is there, or learnt."""
    name = f'sigma{sigma:g}_k{k}_{method}'
    settings = {
        'size': list(clean.shape[2:]),
        'image': digest(clean),
        'lr': rate,
        'iterations': args.iterations,
        'seed': args.seed,
        'noise': args.noise,
    }
    result = results.load(name, settings)
    if result is None or not pictures_of(results, name).is_file():
        noises = gaussian_noise(clean.shape, args.seed, calls=2, generator=args.noise)
        noisy, unseen = (clean + sigma * noise for noise in noises)
        progress = partial(tqdm, desc=name, leave=False, disable=None)
        history = learn(METHODS[method](noisy, k), clean, noisy, unseen, rate, args.iterations, test_every=args.test_every, progress=progress)
        train, test = history.train[-1], history.test[max(history.test)]
        # the pictures come first: a result says that all of its run is there
        torch.save([image[0] for image in (noisy, unseen, *history.denoised)], pictures_of(results, name))
        result = {
            'train_mse': train,
            'test_mse': test,
            'gap': generalisation_gap(train, test),
            'test_psnr': psnr_of(test),
            'diverged_at': len(history.train) if history.diverged else None,
            'seconds_per_iteration': history.seconds / len(history.train),
            'train': history.train,
            'test': {str(iteration): error for iteration, error in history.test.items()},
        }
        results.save(name, settings, result)
    stopped = f'   diverged after {result["diverged_at"]} iterations' if result['diverged_at'] else ''
    print(f'{name:<28} test MSE {result["test_mse"]:.3e}   delta {result["gap"]:<8.3g}{stopped}', flush=True)
    return result


def write_tables(args, results, paper, cells):
    columns = [(f'{method} k={k}', (method, k)) for method in args.methods for k in args.kernel_sizes]
    sections = []
    rows = [(f'sigma={sigma:g}', sigma) for sigma in args.sigmas]
    for title, what in (('test MSE', 'test_mse'), ('delta', 'gap')):

        def measured(sigma, column, what=what):
            return cells[(sigma, *column)][what]

        def printed(sigma, column, what=what):
            return paper_value(paper, what, sigma, *column)

        table = comparison(rows, columns, measured, printed, errors=what == 'test_mse')
        sections.append(f'{title}, measured / paper\n\n{table}\n')
    path = results.folder / 'tables.md'
    path.write_text('\n'.join(sections))
    print(path.read_text(), f'tables: {path}', sep='\n')


def write_figures(args, results, clean, cells):
    for sigma in args.sigmas:
        for k in args.kernel_sizes:
            runs = {
                method: (cells[sigma, method, k], read_pictures(pictures_of(results, f'sigma{sigma:g}_k{k}_{method}'))) for method in args.methods
            }
            path = results.folder / f'sigma{sigma:g}_k{k}.png'
            draw_learning(clean[0], runs, title=f'sigma {sigma:g}, {k} x {k}').savefig(path, dpi=100)
    print(f'figures: {results.folder}/sigma*_k*.png')


def main():
    args = parse_arguments()
    try:
        clean = read_image(args.image, grey=True)[None]
        for sigma in args.sigmas:
            check_sigma(sigma)
        for k in args.kernel_sizes:
            check_kernel(k)
        paper = load_paper(PAPER, 'one_image')
        results = Results(args.out)
        # all of them first: what is impossible shows before hours of work
        rates = {
            (sigma, method, k): learning_rate(args, paper, sigma, method, k, clean.numel())
            for k in args.kernel_sizes
            for sigma in args.sigmas
            for method in args.methods
        }
        cells = {cell: run(args, results, rate, clean, *cell) for cell, rate in rates.items()}
        write_tables(args, results, paper, cells)
        write_figures(args, results, clean, cells)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: the same command goes on with the cells that are missing')


if __name__ == '__main__':
    main()

#!/usr/bin/env python
"""Train the paper's one-layer denoisers (Tables 2 and 8): python tools/denoising_table.py bsds300 --data-root data/bsds300 --out FOLDER."""

import argparse
import math
import sys
from pathlib import Path

from mmengine.config import Config

import metricconv_mm.integrations.mm  # noqa: F401  registers what the configs name
from metricconv_mm.denoising import check_sigma
from metricconv_mm.denoising.tables import Results, comparison, load_paper, paper_value
from metricconv_mm.integrations.mm import launch

CONFIGS = Path(__file__).resolve().parents[1] / 'configs/denoising'
METRICS = ('mse', 'psnr', 'train_mse', 'gap')
METHODS = {'deform': 'deform-k5', 'metric-0.1': 'metric-k5-eps0.1', 'metric-0.9': 'metric-k5-eps0.9'}


def parse_arguments():
    parser = argparse.ArgumentParser(description="Train the paper's one-layer denoisers and put their errors beside the paper's")
    parser.add_argument('data', choices=['bsds300', 'voc2012'], help='data set')
    parser.add_argument('--data-root', help="folder of the data set (default: the configs')")
    parser.add_argument('--out', help='folder for results and checkpoints; finished runs in it are kept (default: work_dirs/denoising_DATA)')
    parser.add_argument('--methods', nargs='+', choices=list(METHODS), default=list(METHODS), help='metric-E has eps_w = E (default: all)')
    parser.add_argument('--kernels', nargs='+', choices=['fixed', 'learnt'], default=['fixed', 'learnt'], help='FKW and LKW (default: both)')
    parser.add_argument('--kernel-sizes', type=int, nargs='+', choices=[5, 11, 31], default=[5, 11], help='(default: 5 11)')
    parser.add_argument('--sigmas', type=float, nargs='+', default=[0.1, 0.3, 0.5], help='standard deviations of the noise (default: 0.1 0.3 0.5)')
    parser.add_argument('--epochs', type=int, default=100, help='(default: 100)')
    parser.add_argument('--crop', type=int, help='train on random squares of so many pixels, evaluate on whole images (default: whole images)')
    parser.add_argument('--lr', type=float, help="learning rate (default: the paper's, which is known for its sigmas)")
    return parser.parse_args()


def configure(args, paper, folder, sigma, method, kernel, k):
    """The config of one cell."""
    name = f'sigma{sigma:g}_k{k}_{method}-{kernel}'
    cfg = Config.fromfile(CONFIGS / f'{METHODS[method]}_{kernel}-kernel_1xb32-100e_{args.data}.py')
    rate = args.lr if args.lr is not None else paper_value(paper, 'lr', sigma, f'{method}-{kernel}', k)
    if rate is None:
        raise ValueError(f'the paper has no learning rate for {method}, {kernel} kernel, sigma {sigma:g}, kernel size {k}: give one with --lr')
    options = {
        'model.kernel_size': k,
        'optim_wrapper.optimizer.lr': rate,
        'train_dataloader.dataset.crop': None if args.crop is None else [args.crop, args.crop],
        # as in the paper, for memory
        'train_dataloader.batch_size': 4 if k == 31 else 32,
        'val_dataloader.batch_size': 4,
        'train_cfg.max_epochs': args.epochs,
        'train_cfg.val_interval': max(args.epochs // 2, 1),
        'work_dir': str(folder / name),
        'experiment_name': name,
        # a run that was stopped goes on from its last checkpoint
        'resume': True,
        'launcher': 'none',
        # a line an epoch
        'default_hooks.logger.interval': 1000,
    }
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        options[f'{loader}.dataset.sigma'] = sigma
        options[f'{loader}.collate_fn'] = dict(type='default_collate')
        if args.data_root:
            options[f'{loader}.dataset.data_root'] = args.data_root
    cfg.merge_from_dict(options)
    return cfg


def run(args, results, cfg):
    """One cell of the table: from the folder if it is there, or trained."""
    name = cfg.experiment_name
    root = str(Path(cfg.train_dataloader.dataset.data_root).resolve())
    settings = {'data': args.data, 'data_root': root, 'lr': cfg.optim_wrapper.optimizer.lr, 'epochs': args.epochs, 'crop': args.crop}
    result = results.load(name, settings)
    if result is None:
        results.begin(name, settings)
        runner = launch.build_runner(launch.choose_resumed(cfg))
        diverged = None
        try:
            runner.train()
        except FloatingPointError:
            diverged = runner.epoch + 1
        if diverged is None and not evaluations(runner):
            # the last epoch was trained before the run was stopped
            runner.val()
        measured = evaluations(runner)
        finite = [values for values in measured if math.isfinite(values['mse'])]
        if diverged is None and not math.isfinite(measured[-1]['mse']):
            # at the very last step, after which there is no loss
            diverged = runner.epoch
        result = {**dict.fromkeys(METRICS), **(finite or [{}])[-1], 'diverged_in_epoch': diverged}
        results.save(name, settings, result)
    stopped = f'   diverged in epoch {result["diverged_in_epoch"]}' if result['diverged_in_epoch'] else ''
    numbers = '   '.join(f'{key} {result[key]:.4g}' for key in METRICS if result[key] is not None)
    print(f'{name:<32} {numbers}{stopped}', flush=True)
    return result


def evaluations(runner):
    """What every evaluation so far has measured, in their order."""
    scalars = runner.message_hub.log_scalars
    series = {key: scalars[f'val/denoising/{key}'].data[0].tolist() for key in METRICS if f'val/denoising/{key}' in scalars}
    return [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]


def write_tables(args, results, paper, cells):
    rows = [(f'sigma={sigma:g} k={k}', (sigma, k)) for sigma in args.sigmas for k in args.kernel_sizes]
    columns = [(f'{method} {kernel}', (method, kernel)) for method in args.methods for kernel in args.kernels]
    sections = []
    for title, what, theirs in (('test MSE', 'mse', 'test_mse'), ('delta', 'gap', 'gap')):

        def measured(row, column, what=what):
            return cells[(*row, *column)][what]

        def printed(row, column, theirs=theirs):
            return paper_value(paper, theirs, row[0], '-'.join(column), row[1])

        table = comparison(rows, columns, measured, printed, errors=what == 'mse')
        sections.append(f'{title}, measured / paper\n\n{table}\n')
    path = results.folder / 'tables.md'
    path.write_text('\n'.join(sections))
    print('\n'.join(sections), f'tables: {path}', sep='\n')


def main():
    args = parse_arguments()
    try:
        for sigma in args.sigmas:
            check_sigma(sigma)
        if args.epochs < 1:
            raise ValueError(f'--epochs: expected at least 1, got {args.epochs}')
        if args.lr is not None and not 0 < args.lr < math.inf:
            raise ValueError(f'--lr: expected a learning rate above 0, got {args.lr}')
        paper = load_paper(CONFIGS / 'paper.json', args.data)
        results = Results(args.out or f'work_dirs/denoising_{args.data}')
        # all configs first: what is impossible shows before hours of work
        configs = {
            (sigma, k, method, kernel): configure(args, paper, results.folder, sigma, method, kernel, k)
            for k in args.kernel_sizes
            for method in reversed(args.methods)
            for kernel in args.kernels
            for sigma in args.sigmas
        }
        cells = {cell: run(args, results, cfg) for cell, cfg in configs.items()}
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    except (KeyboardInterrupt, SyntaxError) as error:
        # mmengine takes an interruption while it writes a config for an error of the config
        if KeyboardInterrupt not in (type(error), type(error.__context__)):
            raise
        sys.exit('\ninterrupted: the same command goes on from the last checkpoint')
    write_tables(args, results, paper, cells)


if __name__ == '__main__':
    main()

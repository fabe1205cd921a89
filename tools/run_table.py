#!/usr/bin/env python
"""Train everything that a table needs: python tools/run_table.py TABLE [--seeds 0 1 2]. Run it again to go on after an interruption."""

import argparse
import shlex
import signal
import sys
from pathlib import Path

from metricconv_mm.integrations.mm.tables import load_table, outcome, plan, run_all

ROOT = Path(__file__).resolve().parent.parent


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('table', help='name of a table in configs/tables, or a .yml file of your own')
    parser.add_argument('--datasets', nargs='+', help='only these')
    parser.add_argument('--methods', nargs='+', help='only these')
    parser.add_argument('--settings', nargs='+', help='only these')
    parser.add_argument('--depths', nargs='+', type=int, help='only these')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='a run each (default: 0 1 2)')
    parser.add_argument('--work-dir', type=Path, help='folder for all runs (default: work_dirs/TABLE)')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time (default: 1); on the CPU they share its cores')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override entries of every config')
    parser.add_argument('--dry-run', action='store_true', help='only say what would be trained, and how')
    args = parser.parse_args(arguments)
    if args.jobs < 1:
        parser.error(f'--jobs: expected at least 1, got {args.jobs}')
    return args


def interrupt(number, frame):
    raise KeyboardInterrupt


def main():
    args = parse_arguments()
    work_dir = args.work_dir or Path('work_dirs') / Path(args.table).stem
    try:
        table = load_table(args.table, ROOT)
        cells = table.select(dataset=args.datasets, method=args.methods, setting=args.settings, depth=args.depths)
        runs = plan(table, cells, args.seeds, work_dir, args.cfg_options)
    except ValueError as error:
        sys.exit(str(error))
    train = ROOT / 'tools' / 'train.py'
    if args.dry_run:
        for run in runs:
            print(f'{outcome(run.folder).state}:', shlex.join(run.command(train)))
        return
    signal.signal(signal.SIGTERM, interrupt)
    print(f'{table.caption}: {len(cells)} networks, {len(runs)} runs in {work_dir}')
    try:
        failures = run_all(runs, train, jobs=args.jobs)
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: the same command goes on from the last checkpoints')
    if failures:
        died = '\n'.join(f'  {run.name}: {reason}' for run, reason in failures)
        sys.exit(f'{len(failures)} of {len(runs)} runs died:\n{died}\nThe same command tries them again, from their last good checkpoints')
    print(f'all {len(runs)} runs are done: python tools/collect_table.py {work_dir}')


if __name__ == '__main__':
    main()

"""Measure speed and memory, verified: ``python -m benchmarks.run [--quick]``; ``python -m benchmarks.report`` then writes docs/performance.md.

Run it on a machine that does nothing else. libgomp's threads spin while they wait: if anything else runs, they stop each other, and times double or
worse. OMP_WAIT_POLICY=PASSIVE avoids that, at some cost on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from . import cases, console, machine, memory, sides, speed
from .cases import Case

RESULTS = Path(__file__).parent / 'results'
PARTS = ('speed', 'threads', 'precision', 'saved', 'peak')
DTYPES = ('float32', 'float64', 'bfloat16', 'float16')
PEAK_CHANNELS, PEAK_SIZES = 64, (512, 1024, 2048)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m benchmarks.run', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cases', nargs='+', default=[], metavar='WORD', help=f'only these: a topic ({", ".join(cases.TOPICS)}), or part of a name')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS), help='only these')
    parser.add_argument('--quick', action='store_true', help='a few small cases and rounds, to see that everything runs: not to be quoted')
    parser.add_argument('--list', action='store_true', help='print the cases and sides, and measure nothing')
    parser.add_argument('--threads', type=int, help="default: torch's own")
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--dtype', choices=DTYPES, default='float32')
    parser.add_argument('--rounds', type=int, help='most runs of a side (15)')
    parser.add_argument('--seconds', type=float, help='that a side takes on a case, forward or forward + backward, but for its least runs (0.5)')
    parser.add_argument(
        '--limit', type=float, help='seconds: where a call would take longer, torchvision, mmcv and the reference backend sit out (2)'
    )
    parser.add_argument('--peak-limit', type=float, default=40.0, help='seconds: the same for the peak of memory (%(default)g)')
    parser.add_argument('--all-sides', action='store_true', help='time the reference backend on every case, not on the headline alone')
    parser.add_argument('--output', type=Path, help='default: benchmarks/results/DEVICE-DTYPE.json if everything is measured, else none')
    options = parser.parse_args(arguments)
    if options.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch sees no GPU')
    whole = not (options.quick or options.cases) and options.parts == list(PARTS)
    if options.output is None and whole:
        options.output = RESULTS / f'{options.device}-{options.dtype}.json'
    try:
        options.chosen = cases.select(options.cases, cases.QUICK if options.quick else cases.CASES)
    except ValueError as error:
        parser.error(str(error))
    return options


class Run:
    """One result file in the making."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.sides, absent = sides.available()
        quick = {'rounds': 3, 'seconds': 0.1, 'limit': 0.3} if options.quick else {}
        given = {name: value for name in ('rounds', 'seconds', 'limit') if (value := getattr(options, name)) is not None}
        self.speed = speed.Options(dtype=getattr(torch, options.dtype), device=options.device, **{**quick, **given})
        settings = {'quick': options.quick, 'device': options.device, 'dtype': options.dtype, 'peak_channels': PEAK_CHANNELS}
        settings |= {name: getattr(self.speed, name) for name in ('rounds', 'seconds', 'limit', 'seed')}
        self.result: dict[str, Any] = {'machine': machine.describe(options.device), 'settings': settings, 'absent': dict(absent)}
        self.result |= {'topics': cases.TOPICS, 'cases': {}}
        self.backend = self.result['backend'] = self.fastest_backend()

    def fastest_backend(self) -> str:
        """The first that runs on the device, in the order in which 'auto' tries them; those that do not are absent."""
        tried = [side for side in self.sides if side.operation == 'metric_conv2d']
        entries = speed.compare(Case((), 1, 4, 8, 4), tried, replace(self.speed, rounds=1, seconds=0))['sides']
        refused = {side.backend: entries[side.name]['skipped'] for side in tried if 'skipped' in entries[side.name]}
        self.result['absent'] |= {f'backend {name}': reason for name, reason in refused.items()}
        self.sides = [side for side in self.sides if side.backend not in refused]
        return next(side.backend for side in tried if side.backend not in refused) or 'reference'

    def headline(self) -> list[Case]:
        return [case for case in self.options.chosen if 'headline' in case.topics]

    def run_speed(self) -> None:
        for case in self.options.chosen:
            everywhere = self.options.all_sides or 'headline' in case.topics
            taking_part = [side for side in self.sides if everywhere or side.backend != 'reference' or self.backend == 'reference']
            entry = {**vars(case), **speed.compare(case, taking_part, self.speed)}
            if len(taking_part) < len(self.sides):
                entry['left_out'] = 'the reference backend is timed on the headline cases alone'
            self.result['cases'][case.name] = entry
            console.speed(case.name, entry)

    def run_threads(self) -> None:
        count = torch.get_num_threads()
        if self.options.device != 'cpu' or count < 2:
            self.result['threads'] = {'skipped': 'more threads against one needs the CPU and two threads'}
            return
        among = [case for case in self.options.chosen if case in cases.THREADED]
        entries = {case.name: speed.scale_threads(case, self.backend, self.speed, (1, count)) for case in among}
        self.result['threads'] = {'counts': [1, count], 'cases': entries}
        console.threads(self.result['threads'])

    def run_precision(self) -> None:
        if self.options.dtype != 'float32':
            self.result['precision'] = {'skipped': 'bfloat16 is held against float32, so that it needs --dtype float32'}
            return
        entries = {case.name: speed.compare_precisions(case, self.backend, self.speed) for case in self.headline()}
        self.result['precision'] = {'cases': entries}
        console.precision(self.result['precision']['cases'])

    def run_saved(self) -> None:
        compared = [side for side in self.sides if side.backend in (None, self.backend)]
        self.result['saved'] = {case.name: memory.saved_by(case, compared, self.speed.dtype, self.options.device) for case in self.headline()}
        console.saved(self.result['saved'])

    def run_peak(self) -> None:
        sizes = (256,) if self.options.quick else PEAK_SIZES
        names = {'conv2d', f'MetricConv2d/{self.backend}'}
        if not self.options.quick:
            names |= {f'metric_conv2d/{self.backend}', sides.TORCHVISION.name, sides.MMCV.name}
        self.result['peak'] = peaks = {}
        for side in (side for side in self.sides if side.name in names):
            peaks[side.name] = memory.climb(side, PEAK_CHANNELS, sizes, self.speed.dtype, self.options.device, self.options.peak_limit)
            console.peak(side.name, peaks[side.name])

    def save(self) -> None:
        if self.options.output:
            self.options.output.parent.mkdir(parents=True, exist_ok=True)
            self.options.output.write_text(json.dumps(self.result, indent=1) + '\n')


def failures(result: Any, path: tuple[str, ...] = ()) -> list[str]:
    """Where in a result a side was wrong, and how."""
    if not isinstance(result, dict):
        return []
    own = [f'{" / ".join(path)}: {result["failed"]}'] if 'failed' in result else []
    return own + [line for key, value in result.items() for line in failures(value, (*path, str(key)))]


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.device == 'cuda':  # both sides of every ratio in the precision that the dtype says
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if options.list:
        console.listing(options.chosen, *sides.available())
        return 0
    start, run = time.time(), Run(options)
    console.header(run.result)
    for part in options.parts:
        getattr(run, f'run_{part}')()
        run.save()
    run.result['minutes'] = (time.time() - start) / 60
    run.save()
    wrong = failures(run.result)
    console.footer(run.result, options.output, wrong)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())

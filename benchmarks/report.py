"""Write docs/performance.md from the result files: ``python -m benchmarks.report``. Every number in it comes from them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .machine import ROOT
from .results import MODES, OPERATIONS, Result, number

DOCUMENT = ROOT / 'docs' / 'performance.md'
FOLDER = Path(__file__).parent / 'results'
TORCHVISION = 'torchvision.deform_conv2d'

INTRODUCTION = """# Performance

Written by `python -m benchmarks.report` from `benchmarks/results/`; do not edit. `python -m benchmarks.run` measures again.

Every number is of one layer, not of a network, named by batch x channels x image side. **/ conv2d** is a median time divided by that of
`nn.Conv2d` of the same shape (below one is faster); **torchvision /** is the time of `torchvision.ops.deform_conv2d`, at the very same samples,
divided by ours (above one is faster). Backward computes the gradients of everything.

* A side is timed only after its output and all its gradients agreed with the float64 reference on the case: within a small multiple of the error that
  `nn.Conv2d` itself makes in float32, plus the rounding of positions.
* Sides take turns in random order, so that whatever slows the machine down slows all of them.
* Samples differ from pixel to pixel without any smoothness, in balls about as large as the kernel's window: a trained network is kinder to caches.
* `metric_conv2d`, `deform_conv2d` and `shifted_conv2d` are the operators alone; `MetricConv2d` is the whole layer, with the convolution that predicts
  the metric. No layer has a bias, as in the ResNets.
* The threads of libgomp spin while they wait. If anything else runs on the machine, they stop each other, and times of every side double or worse;
  `OMP_WAIT_POLICY=PASSIVE` avoids that, at some cost on a quiet machine.
"""
MEANS = """### In short

Geometric means, exp(mean(log(ratio))), of the ratios over {cases}:
"""
SAVED = """### Memory kept for backward

Bytes that autograd keeps from forward to backward, without parameters, divided by those of the layer's input.
"""
PEAK = """### Peak memory

Of a fresh process, for forward and backward of one layer ({channels} to {channels} channels, one image, {dtype}), over what it holds
after its imports: input, output and gradients included.
"""


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table."""
    lines = [header, ['---', *('--:' for _ in header[1:])], *rows]
    return [*('| ' + ' | '.join(cells) + ' |' for cells in lines), '']


def conditions(result: Result) -> Iterator[str]:
    m, s = result.machine, result.settings
    versions = ', '.join(f'{name} {version}' for name, version in m['packages'].items())
    yield (
        f'{m["gpu"] or m["cpu"]}, {m["cores"]} cores ({m["cpu_capability"]}), {m["threads"]} threads, {s["dtype"]}; torch {m["torch"]}, {versions}; '
        f'Python {m["python"]}; {m["date"]}, commit {m["commit"]}; load before the run {number(m["load_before"] or 0.0)}, OMP_WAIT_POLICY '
        f'{m["omp_wait_policy"] or "not set"}. Medians of {result.fewest_runs()} to {s["rounds"]} runs; half of all interquartile ranges are below '
        f'{number(result.typical_spread())} of their median, the widest is {number(result.widest_spread())}.'
    )
    yield ''
    if s['quick'] or m['commit'] is None or m['commit'].endswith('-dirty') or result.busy:
        yield '**A trial: ' + result.doubts() + '. Not to be quoted.**'
        yield ''


def means(result: Result) -> Iterator[str]:
    headline, everything = result.cases('headline'), result.cases()
    for names, what in ((headline, f'the headline cases ({len(headline)})'), (everything, f'all cases ({len(everything)})')):
        yield MEANS.format(cases=what) if names is headline else f'Over {what}:\n'
        rows = []
        for operation in OPERATIONS:
            ours = result.ours(operation)
            ratios = [result.mean_ratio(names, ours, 'conv2d', mode) for mode in MODES]
            rows.append([f'`{operation}`', *ratios, *(result.mean_ratio(names, TORCHVISION, ours, mode) for mode in MODES)])
        yield from table(['', *(f'{what}, {mode}' for what in ('/ conv2d', 'torchvision /') for mode in MODES.values())], rows)


def extremes(result: Result) -> Iterator[str]:
    yield '### Wins and losses'
    yield ''
    for operation in OPERATIONS:
        side = result.ours(operation)
        for mode, title in MODES.items():
            ratios = sorted(result.ratios(result.cases(), side, 'conv2d', mode), key=lambda pair: pair[1])
            if not ratios:
                continue
            (best, low), (worst, high) = ratios[0], ratios[-1]
            faster = sum(ratio < 1 for _, ratio in ratios)
            line = f'* `{operation}`, {title}: faster than `nn.Conv2d` in {faster} of {len(ratios)} cases; '
            line += f'best {number(low)} times its time ({best}), worst {number(high)} ({worst})'
            versus = sorted(result.ratios(result.cases(), TORCHVISION, side, mode), key=lambda pair: pair[1])
            slower = [f'{name} ({number(ratio)})' for name, ratio in versus if ratio < 1]
            if versus:
                line += f'. Slower than torchvision in {len(slower)} of {len(versus)}' + (': ' + ', '.join(slower) if slower else '')
            yield line + '.'
    yield ''


def speeds(result: Result) -> Iterator[str]:
    for topic, title in result.raw['topics'].items():
        names = result.cases(topic)
        if not names:
            continue
        yield f'### {title}'
        yield ''
        for mode, label in MODES.items():
            header = [
                label,
                'conv2d, ms',
                *(f'`{o}` / conv2d' for o in OPERATIONS),
                *(f'torchvision / `{o}`' for o in ('deform_conv2d', 'metric_conv2d')),
            ]
            rows = []
            for name in names:
                row = [result.label(name), result.milliseconds(name, 'conv2d', mode)]
                row += [result.ratio_cell(name, result.ours(o), 'conv2d', mode) for o in OPERATIONS]
                row += [result.ratio_cell(name, TORCHVISION, result.ours(o), mode) for o in ('deform_conv2d', 'metric_conv2d')]
                rows.append(row)
            yield from table(header, rows)
    reference = [o for o in OPERATIONS if result.ratios(result.cases(), f'{o}/reference', 'conv2d', 'forward')]
    if reference and result.backend != 'reference':
        yield '### Without the extension: the reference backend'
        yield ''
        header = ['headline', *(f'`{o}`, {label} / conv2d' for o in reference for label in MODES.values())]
        cells = [
            [result.ratio_cell(name, f'{o}/reference', 'conv2d', mode) for o in reference for mode in MODES] for name in result.cases('headline')
        ]
        yield from table(header, [[result.label(name), *row] for name, row in zip(result.cases('headline'), cells, strict=True)])


def threads(result: Result) -> Iterator[str]:
    part = result.part('threads')
    if not part:
        return
    few, many = part['counts']
    yield f'### {many} threads against {few}'
    yield ''
    yield 'Forward and backward: time with fewer threads divided by time with more, in turn in one process.'
    yield ''
    sides = ['conv2d', result.ours('metric_conv2d'), result.ours('MetricConv2d')]
    rows = [
        [result.label(name), *(result.quotient(case['sides'].get(s, {}), f'threads_{few}', f'threads_{many}') for s in sides)]
        for name, case in part['cases'].items()
    ]
    yield from table(['', *(f'`{side}`' for side in sides)], rows)


def precision(result: Result) -> Iterator[str]:
    part = result.part('precision')
    if not part:
        return
    yield '### bfloat16'
    yield ''
    yield 'Time in bfloat16 divided by time in float32 (below one, bfloat16 is faster).'
    yield ''
    sides = ['conv2d', result.ours('metric_conv2d'), result.ours('MetricConv2d')]
    rows = []
    for name, case in part['cases'].items():
        entries = [case['sides'].get(side, {}) for side in sides]
        rows.append(
            [
                result.label(name),
                *(result.quotient({d: e.get(d, {}).get(mode, {}) for d in e}, 'bfloat16', 'float32') for e in entries for mode in MODES),
            ]
        )
    yield from table(['', *(f'`{side}`, {label}' for side in sides for label in MODES.values())], rows)


def memory(result: Result) -> Iterator[str]:
    if saved := result.part('saved'):
        yield SAVED
        sides = list(dict.fromkeys(side for entries in saved.values() for side in entries))
        rows = [[result.label(name), *(result.kept(entries.get(side)) for side in sides)] for name, entries in saved.items()]
        yield from table(['', *(f'`{side}`' for side in sides)], rows)
    if peak := result.part('peak'):
        yield PEAK.format(channels=result.settings['peak_channels'], dtype=result.settings['dtype'])
        sizes = list(dict.fromkeys(size for entries in peak.values() for size in entries))
        base = peak.get('conv2d', {})
        rows = [[f'`{side}`', *(result.peak_cell(entries.get(size, {}), base.get(size, {})) for size in sizes)] for side, entries in peak.items()]
        yield from table(['GiB (/ conv2d)', *(f'{size} px' for size in sizes)], rows)


def omissions(result: Result) -> Iterator[str]:
    yield '### Not measured'
    yield ''
    lines = [f'* {name}: {reason}' for name, reason in result.raw['absent'].items()]
    for reason, where in result.skipped().items():
        lines.append(f'* {reason}: {", ".join(where)}')
    yield from lines or ['Nothing was left out.']
    yield ''


def section(result: Result) -> Iterator[str]:
    for part in (conditions, means, extremes, speeds, threads, precision, memory, omissions):
        yield from part(result)


def document(raw: list[dict[str, Any]]) -> str:
    """The whole page, for the contents of the result files."""
    results = [Result(contents) for contents in raw]
    lines = [INTRODUCTION]
    for device, title, none in (('cpu', 'CPU', 'a CPU'), ('cuda', 'GPU', 'a GPU')):
        lines += [f'## {title}', '']
        chosen = [result for result in results if result.settings['device'] == device]
        if not chosen:
            lines += [f'No result on {none} has been recorded yet.', '']
        for result in chosen:
            lines += section(result)
    return '\n'.join(lines).rstrip() + '\n'


def load(folder: Path = FOLDER) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob('*.json'))]


def main() -> int:
    DOCUMENT.write_text(document(load()))
    print(f'wrote {DOCUMENT.relative_to(ROOT)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

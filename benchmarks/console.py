"""What a run prints while it measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .cases import Case
from .machine import cores
from .sides import Side

MODES = {'forward': 'forward', 'forward_backward': 'forward + backward'}
BUSY = 0.5


def _why(entry: dict[str, Any]) -> str | None:
    return f'WRONG: {entry["failed"]}' if 'failed' in entry else entry.get('skipped')


def header(result: dict[str, Any]) -> None:
    m, s = result['machine'], result['settings']
    print(f'{m["gpu"] or m["cpu"]}, {m["cores"]} cores, {m["threads"]} threads, torch {m["torch"]}, {s["dtype"]}, commit {m["commit"]}')
    for name, reason in result['absent'].items():
        print(f'absent: {name}: {reason}')
    if (m['load_before'] or 0) > BUSY * cores() and m['omp_wait_policy'] != 'PASSIVE':
        print(f'warning: the machine is busy (load {m["load_before"]:.1f}): times will not hold; at least set OMP_WAIT_POLICY=PASSIVE')


def _median(entry: dict[str, Any], side: str, mode: str) -> float | None:
    return entry['sides'].get(side, {}).get(mode, {}).get('median_ms')


def _cells(entry: dict[str, Any], side: str, mode: str) -> tuple[str, str, str]:
    """Median and quartiles, time divided by nn.Conv2d's, torchvision's time divided by it."""
    times = entry['sides'][side][mode]
    if 'skipped' in times:
        return times['skipped'], '', ''
    ours, base, other = times['median_ms'], _median(entry, 'conv2d', mode), _median(entry, 'torchvision.deform_conv2d', mode)
    ratio = f'{ours / base:.2f}' if base else ''
    return f'{ours:.2f} ({times["low_ms"]:.2f}-{times["high_ms"]:.2f})', ratio, f'{other / ours:.1f}' if other else ''


def speed(name: str, entry: dict[str, Any]) -> None:
    """Forward and forward + backward of every side."""
    print(f'\n{name}\n  {"":26}' + ''.join(f'{title + ", ms":>32}{"/ conv2d":>10}{"torchvision /":>14}' for title in MODES.values()))
    for side, results in entry['sides'].items():
        cells = [cell for mode in MODES for cell in _cells(entry, side, mode)] if not _why(results) else None
        shown = ''.join(f'{cell:>{width}}' for cell, width in zip(cells, 2 * (32, 10, 14), strict=True)) if cells else _why(results)
        print(f'  {side:26}{shown}', flush=True)


def threads(result: dict[str, Any]) -> None:
    few, many = result['counts']
    print(f'\nforward + backward: speed-up of {many} threads over {few}')
    for name, case in result['cases'].items():
        parts = []
        for side, entry in case['sides'].items():
            parts.append(f'{side} {_why(entry) or format(entry[f"threads_{few}"]["median_ms"] / entry[f"threads_{many}"]["median_ms"], ".2f")}')
        print(f'  {name}: {", ".join(parts)}', flush=True)


def precision(result: dict[str, Any]) -> None:
    print('\nbfloat16: time divided by that of float32')
    for name, case in result.items():
        for side, entry in case['sides'].items():
            single, half = entry['float32'], entry['bfloat16']
            why = _why(single) or _why(half)
            cells = [why] if why else [f'{title} {half[mode]["median_ms"] / single[mode]["median_ms"]:.2f}' for mode, title in MODES.items()]
            print(f'  {name}: {side}: {", ".join(cells)}', flush=True)


def saved(result: dict[str, Any]) -> None:
    print('\nkept for backward, in sizes of the input, without parameters')
    for name, entries in result.items():
        parts = (f'{side} {(entry["total"] - entry["parameters"]) / entry["input"]:.2f}' for side, entry in entries.items())
        print(f'  {name}: {", ".join(parts)}')


def peak(side: str, sizes: dict[str, Any]) -> None:
    parts = (f'{size} px {_why(entry) or format(entry["peak"] / 2**30, ".2f") + " GiB"}' for size, entry in sizes.items())
    print(f'peak memory of {side}: {", ".join(parts)}', flush=True)


def listing(cases: list[Case], sides: list[Side], absent: dict[str, str]) -> None:
    for case in cases:
        print(f'{case.name}  ({", ".join(case.topics)})')
    for side in sides:
        print(f'side {side.name}')
    for name, reason in absent.items():
        print(f'absent {name}: {reason}')


def footer(result: dict[str, Any], output: Path | None, wrong: list[str]) -> None:
    print(f'\n{result["minutes"]:.1f} minutes; ' + (f'written to {output}' if output else 'not written: give --output FILE.json'))
    for line in wrong:
        print(f'WRONG, and not timed: {line}')

"""Questions to a result file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

MODES = {'forward': 'forward', 'forward_backward': 'forward + backward'}
OPERATIONS = ('metric_conv2d', 'MetricConv2d', 'deform_conv2d', 'shifted_conv2d')
NONE = '-'
#: share of the cores that other work took before a run
BUSY = 0.5


def number(value: float) -> str:
    """Three digits or so, and no exponent."""
    if not math.isfinite(value):
        return str(value)
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f'{value:.{digits}f}'


class Result:
    """The contents of one file."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw, self.machine, self.settings, self.backend = raw, raw['machine'], raw['settings'], raw['backend']

    def ours(self, operation: str) -> str:
        return f'{operation}/{self.backend}'

    def part(self, name: str) -> dict[str, Any]:
        """A part of the run, empty if it was not run, or on no case."""
        part = self.raw.get(name, {})
        return {} if 'skipped' in part or part.get('cases') == {} else part

    def cases(self, topic: str | None = None) -> list[str]:
        return [name for name, case in self.raw['cases'].items() if topic is None or topic in case['topics']]

    def label(self, name: str) -> str:
        """What the case is, or its bare name if its speed was not measured."""
        if name not in self.raw['cases']:
            return name
        case = self.raw['cases'][name]
        channels = f'{case["channels"]}' + (f' → {case["out_channels"]}' if case['channels'] != case['out_channels'] else '')
        kind = ', depthwise' if case['groups'] == case['channels'] > 1 else f', groups {case["groups"]}' if case['groups'] > 1 else ''
        stride = f', stride {case["stride"]}' if case['stride'] > 1 else ''
        return f'{case["batch"]} x {channels} x {case["size"]} px, kernel {case["kernel"]}{stride}{kind}'

    # --- times ------------------------------------------------------------------------------------------------------------------

    def _entry(self, name: str, side: str, mode: str) -> dict[str, Any]:
        return self.raw['cases'][name]['sides'].get(side, {}).get(mode, {})

    def _ratio(self, name: str, side: str, other: str, mode: str) -> float | None:
        ours, base = self._entry(name, side, mode).get('median_ms'), self._entry(name, other, mode).get('median_ms')
        return ours / base if ours and base else None

    def ratios(self, names: list[str], side: str, other: str, mode: str) -> list[tuple[str, float]]:
        """Time of ``side`` divided by that of ``other``, where both were measured."""
        return [(self.label(name), ratio) for name in names if (ratio := self._ratio(name, side, other, mode))]

    def mean_ratio(self, names: list[str], side: str, other: str, mode: str) -> str:
        """The geometric mean; says over how many cases if not all were measured."""
        ratios = [ratio for _, ratio in self.ratios(names, side, other, mode)]
        if not ratios:
            return NONE
        return number(statistics.geometric_mean(ratios)) + (f' (of {len(ratios)})' if len(ratios) < len(names) else '')

    def ratio_cell(self, name: str, side: str, other: str, mode: str) -> str:
        ratio = self._ratio(name, side, other, mode)
        return number(ratio) if ratio else NONE

    def milliseconds(self, name: str, side: str, mode: str) -> str:
        entry = self._entry(name, side, mode)
        return number(entry['median_ms']) if entry else NONE

    def quotient(self, entry: dict[str, Any], upper: str, lower: str) -> str:
        a, b = (entry.get(key, {}).get('median_ms') for key in (upper, lower))
        return number(a / b) if a and b else NONE

    # --- how far to trust them --------------------------------------------------------------------------------------------------

    def _times(self) -> list[dict[str, Any]]:
        sides = (side for case in self.raw['cases'].values() for side in case['sides'].values())
        return [side[mode] for side in sides for mode in MODES if 'median_ms' in side.get(mode, {})]

    def _spreads(self) -> list[float]:
        return [(t['high_ms'] - t['low_ms']) / t['median_ms'] for t in self._times()] or [math.nan]

    def typical_spread(self) -> float:
        return statistics.median(self._spreads())

    def widest_spread(self) -> float:
        return max(self._spreads())

    def fewest_runs(self) -> int:
        return min((times['runs'] for times in self._times()), default=0)

    @property
    def busy(self) -> bool:
        return (self.machine['load_before'] or 0) > BUSY * self.machine['cores']

    def doubts(self) -> str:
        """Why the numbers are not to be quoted."""
        commit = self.machine['commit']
        told = (
            (self.settings['quick'], 'a quick run of a few small cases'),
            (commit is None or commit.endswith('-dirty'), 'of code that is no commit'),
            (self.busy, 'on a busy machine'),
        )
        return ', '.join(words for doubtful, words in told if doubtful)

    # --- memory -----------------------------------------------------------------------------------------------------------------

    def kept(self, entry: dict[str, Any] | None) -> str:
        return number((entry['total'] - entry['parameters']) / entry['input']) if entry else NONE

    def peak_cell(self, entry: dict[str, Any], base: dict[str, Any]) -> str:
        if 'peak' not in entry:
            return entry.get('skipped', NONE)
        ratio = f' ({number(entry["peak"] / base["peak"])})' if 'peak' in base else ''
        return number(entry['peak'] / 2**30) + ratio

    # --- what is missing --------------------------------------------------------------------------------------------------------

    def skipped(self) -> dict[str, list[str]]:
        """reason -> what was not measured for it."""
        reasons: dict[str, list[str]] = {}
        for reason, where in self._reasons():
            reasons.setdefault(reason, []).append(where)
        return reasons

    def _reasons(self) -> Iterator[tuple[str, str]]:
        for name in ('threads', 'precision', 'saved', 'peak'):
            if name not in self.raw:
                yield 'not asked for', name
            elif 'skipped' in self.raw[name]:
                yield self.raw[name]['skipped'], name
        for name, case in self.raw['cases'].items():
            for side, entry in case['sides'].items():
                for key, what in (('failed', 'WRONG, and not timed: '), ('skipped', '')):
                    if key in entry:
                        yield what + entry[key], f'{side} on {self.label(name)}'
                for mode, title in MODES.items():
                    if 'skipped' in entry.get(mode, {}):
                        yield f'{side}, {title}, {entry[mode]["skipped"]}', self.label(name)
        if any('left_out' in case for case in self.raw['cases'].values()):
            yield next(case['left_out'] for case in self.raw['cases'].values() if 'left_out' in case), 'the reference backend elsewhere'

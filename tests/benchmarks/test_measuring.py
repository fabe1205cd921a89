"""Timing takes turns, and memory is counted right."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from benchmarks import cases, memory, sides, timing
from benchmarks.problem import draw
from benchmarks.sides import CONV2D, ours

SMALL = cases.Case(('headline',), 2, 4, 9, 6, stride=2)


def test_sides_take_turns():
    log, costs = [], {'quick': 0.001, 'slow': 0.9, 'other': 0.001}

    def clock(call):
        return call()

    def call(name):
        def called():
            log.append(name)
            return costs[name]

        return called

    times = timing.interleave({name: call(name) for name in costs}, rounds=9, seconds=0.05, seed=0, clock=clock)
    assert {name: len(values) for name, values in times.items()} == {'quick': 9, 'slow': timing.LEAST_RUNS, 'other': 9}
    assert log[:6] == ['quick', 'quick', 'slow', 'slow', 'other', 'other'], 'two calls to warm up'
    fast = [name for name in log[6:] if name != 'slow']
    rounds = [fast[i : i + 2] for i in range(0, len(fast), 2)]
    assert all(set(names) == {'quick', 'other'} for names in rounds) and len(set(map(tuple, rounds))) == 2
    positions = [i for i, name in enumerate(log) if name == 'slow'][2:]
    assert min(b - a for a, b in pairwise(positions)) > 2, 'the slow one is spread over the rounds'


def test_the_order_follows_the_seed():
    runs = dict.fromkeys('abcdef', 5)
    assert timing.schedule(runs, 1) == timing.schedule(runs, 1) != timing.schedule(runs, 2)


def test_summary_is_median_and_quartiles_in_milliseconds():
    assert timing.summary([0.001, 0.005, 0.002, 0.004, 0.003]) == pytest.approx({'median_ms': 3, 'low_ms': 2, 'high_ms': 4, 'runs': 5})


def test_gradients_do_not_accumulate():
    bound = sides.Bound(ours('MetricConv2d', 'reference'), draw(SMALL))
    first, second = bound.forward_backward()[1], bound.forward_backward()[1]
    assert all(leaf.grad is None for leaf in bound.leaves.values()) and len(first) == 4
    torch.testing.assert_close(first, second)


def test_saved_bytes_of_modules_that_one_can_count():
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    conv = nn.Conv2d(3, 4, 3, bias=False)
    assert memory.saved_bytes(lambda: conv(x), conv.parameters()) == {'output': 4 * 72, 'total': 4 * (150 + 108), 'parameters': 4 * 108}
    # a view of the input and the input itself are one storage; the sigmoid keeps its output
    assert memory.saved_bytes(lambda: (x * x[:1]).sigmoid(), [])['total'] == 4 * (150 + 150)


def test_peaks_that_would_take_too_much_are_not_tried(monkeypatch):
    tried = []

    def measure(side, channels, size, *rest):
        tried.append(size)
        return {'peak': size**2 * 2**10, 'seconds': size / 10}

    monkeypatch.setattr(memory, '_in_fresh_process', measure)
    monkeypatch.setattr(memory, 'available_memory', lambda: 2**30)
    patient, bounded = (memory.climb(side, 4, (10, 100, 10_000), torch.float32, 'cpu', 50.0) for side in (CONV2D, sides.TORCHVISION))
    assert 'GiB free' in patient['10000']['skipped'] and 'the limit is 50 s' in bounded['100']['skipped']
    assert tried == [10, 100, 10]

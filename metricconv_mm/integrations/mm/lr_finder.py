"""The learning rate range test of Smith, "Cyclical learning rates for training neural networks", 2017, on any config's model and data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .hooks.common import optimizers, unwrapped


class RangeTest(NamedTuple):
    """The loss at every learning rate tried, as it came and smoothed, and what follows."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None
    """where the smoothed loss falls most steeply; None where it does not fall"""
    diverged: bool


def range_test(
    model: nn.Module,
    loader: Iterable[Any],
    optim_wrapper: Any,
    low: float,
    high: float,
    iterations: int = 100,
    *,
    momentum: float = 0.95,
    threshold: float = 5.0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> RangeTest:
    """Train a step at each of ``iterations`` learning rates from ``low`` to ``high``, equally far apart in logarithm.

    Stops when the loss is not finite, or ``threshold`` times its least smoothed value so far. Learning rates of parameter groups keep their ratios.
    The model is left as it was found.

    Args:
        loader: batches for ``model.train_step``; started again when it ends.
        momentum: of the smoothing, an exponential moving average without bias.

    Raises:
        ValueError: for rates that are not 0 < low < high, fewer than three iterations, or a loader without batches.
        FloatingPointError: when the loss is not finite at the lowest rate.
    """
    if not 0 < low < high < torch.finfo(torch.float32).max:
        raise ValueError(f'expected learning rates 0 < low < high, as far as float32 goes, got {low=}, {high=}')
    if iterations < 3:
        raise ValueError(f'expected at least 3 iterations, to see the loss fall, got {iterations=}')
    groups = [group for optimizer in optimizers(optim_wrapper) for group in optimizer.param_groups]
    largest = max(group['lr'] for group in groups)
    ratios = [group['lr'] / largest if largest > 0 else 1.0 for group in groups]
    saved = copy.deepcopy(unwrapped(model).state_dict()), [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers(optim_wrapper)]
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    diverged, average = False, 0.0
    batches = _endless(loader)
    model.train()
    try:
        for iteration in progress(range(iterations)):
            rate = low * (high / low) ** (iteration / (iterations - 1))
            for group, ratio in zip(groups, ratios, strict=True):
                group['lr'] = rate * ratio
            loss = torch.as_tensor(model.train_step(next(batches), optim_wrapper)['loss']).item()  # type: ignore[operator]
            if not math.isfinite(loss):
                diverged = True
                break
            average = momentum * average + (1 - momentum) * loss
            rates.append(rate)
            losses.append(loss)
            smoothed.append(average / (1 - momentum ** (iteration + 1)))
            if loss > threshold * min(smoothed):
                diverged = True
                break
    finally:
        unwrapped(model).load_state_dict(saved[0])
        for optimizer, state in zip(optimizers(optim_wrapper), saved[1], strict=True):
            optimizer.load_state_dict(state)
    if not rates:
        raise FloatingPointError(f'the loss is not finite at the lowest learning rate, {low:g}: look at the data, or start lower')
    return RangeTest(rates, losses, smoothed, _steepest(rates, smoothed), diverged)


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError('the training data has no batches: expected at least one')


def _steepest(rates: list[float], smoothed: list[float]) -> float | None:
    """The rate before the least loss at which the loss falls most over the logarithm of the rate."""
    if len(rates) < 3:
        return None
    # at the last values of a test that diverged the loss is on its way up
    slope = np.gradient(smoothed, np.log(rates))[: int(np.argmin(smoothed)) + 1]
    steepest = int(np.argmin(slope))
    return rates[steepest] if slope[steepest] < 0 else None

"""Bytes kept for backward, and the peak of a fresh process: ``python -m benchmarks.memory SIDE CHANNELS SIZE DTYPE DEVICE THREADS`` prints one."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .cases import Case
from .machine import ROOT, available_memory
from .problem import draw
from .sides import Bound, Side, named

#: of the memory that is free; the rest is for everybody else
SHARE = 0.85


def saved_bytes(function: Callable[[], Tensor], parameters: Iterable[Tensor]) -> dict[str, int]:
    """Bytes of the storages that autograd keeps between forward and backward, each counted once, and how many of them are ``parameters``."""
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, or its address could be given out again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = function()
    owned = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    return {
        'output': out.untyped_storage().nbytes(),
        'total': sum(storage.nbytes() for storage in kept.values()),
        'parameters': sum(storage.nbytes() for pointer, storage in kept.items() if pointer in owned),
    }


def saved_by(case: Case, sides: list[Side], dtype: torch.dtype, device: str) -> dict[str, dict[str, int]]:
    """What every side keeps for backward on a case."""
    problem, results = draw(case, dtype, device), {}
    for side in sides:
        bound = Bound(side, problem)
        parameters = [leaf for name, leaf in bound.leaves.items() if 'weight' in name or 'bias' in name]
        with side.context():
            results[side.name] = {**saved_bytes(bound.run, parameters), 'input': problem['input'].untyped_storage().nbytes()}
    return results


def _status(field: str) -> int:
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(field + ':'))
    return int(line.split()[1]) * 1024


def in_use(device: str) -> int:
    """Bytes of this process."""
    return torch.cuda.memory_allocated() if device == 'cuda' else _status('VmRSS')


def forget_peak(device: str) -> None:
    """The peak starts anew: what came before does not count."""
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    else:
        Path('/proc/self/clear_refs').write_text('5')  # VmHWM


def peak_of_process(device: str) -> int:
    """The most bytes of this process since :func:`forget_peak`."""
    return torch.cuda.max_memory_allocated() if device == 'cuda' else _status('VmHWM')


def _limit_memory() -> None:
    """An allocation that does not fit fails, before the kernel ends somebody's process."""
    free = available_memory()
    if free is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (_status('VmData') + int(SHARE * free), resource.RLIM_INFINITY))


def measure_peak(side: Side, channels: int, size: int, dtype: torch.dtype, device: str) -> dict[str, float]:
    """The highest memory of one forward + backward on one image, over what the process had after imports and a small call; tensors included."""
    cuda = device == 'cuda'
    if not cuda:
        _limit_memory()
    Bound(side, draw(Case((), 1, channels, 16, channels), dtype, device)).forward_backward()
    baseline = in_use(device)
    bound = Bound(side, draw(Case((), 1, channels, size, channels), dtype, device))
    forget_peak(device)  # drawing the tensors does not count
    start = time.perf_counter()
    kept = bound.forward_backward()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = peak_of_process(device) - baseline
    tensors = [*bound.leaves.values(), bound.grad, kept[0], *kept[1]]
    return {'peak': peak, 'tensors': sum(t.untyped_storage().nbytes() for t in tensors), 'seconds': seconds}


def _in_fresh_process(side: Side, channels: int, size: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    arguments = [side.name, str(channels), str(size), str(dtype).removeprefix('torch.'), device, str(torch.get_num_threads())]
    done = subprocess.run([sys.executable, '-m', 'benchmarks.memory', *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {'skipped': lines[-1] if lines else f'ended with status {done.returncode}'}
    return json.loads(done.stdout.splitlines()[-1])


def climb(side: Side, channels: int, sizes: Iterable[int], dtype: torch.dtype, device: str, limit: float) -> dict[str, dict[str, Any]]:
    """The peak at one size after the other, until memory would not suffice, or for a bounded side the ``limit`` in seconds."""
    limit = limit if side.bounded else math.inf
    results: dict[str, dict[str, Any]] = {}
    last: dict[str, Any] | None = None
    for size in sizes:
        if last and (reason := _obstacle(last, (size / last['size']) ** 2, device, limit)):
            results[str(size)] = {'skipped': reason}
            continue
        results[str(size)] = measured = _in_fresh_process(side, channels, size, dtype, device)
        if 'peak' in measured:
            last = {**measured, 'size': size}
    return results


def _obstacle(last: dict[str, Any], factor: float, device: str, limit: float) -> str | None:
    free = torch.cuda.mem_get_info()[0] if device == 'cuda' else available_memory()
    memory, seconds = factor * last['peak'], factor * last['seconds']
    if free is not None and memory > SHARE * free:
        return f'would take about {memory / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free'
    return f'would take about {seconds:.0f} s, the limit is {limit:g} s' if seconds > limit else None


def main(arguments: list[str]) -> None:
    name, channels, size, dtype, device, threads = arguments
    torch.set_num_threads(int(threads))
    print(json.dumps(measure_peak(named(name), int(channels), int(size), getattr(torch, dtype), device)))


if __name__ == '__main__':
    main(sys.argv[1:])

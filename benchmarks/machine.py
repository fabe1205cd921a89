"""Under which conditions a result was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from metricconv_mm.collect_env import cores, cpu

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ('torchvision', 'mmcv', 'mmcv-lite', 'onedl-mmcv', 'triton', 'numpy')


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    done = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=12'], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or None if done.returncode == 0 else None


def available_memory() -> int | None:
    """Bytes that the machine can still hand out, where Linux says so."""
    try:
        line = next(line for line in Path('/proc/meminfo').read_text().splitlines() if line.startswith('MemAvailable'))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024


def busy() -> float | None:
    """Processes that want to run, on average over the last minute."""
    return os.getloadavg()[0] if hasattr(os, 'getloadavg') else None


def describe(device: str) -> dict[str, object]:
    """The machine and the software, as the result file records them."""
    return {
        'cpu': cpu(),
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'cores': cores(),
        'gpu': torch.cuda.get_device_name() if device == 'cuda' else None,
        'cuda': torch.version.cuda if device == 'cuda' else None,
        'system': platform.platform(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'packages': _versions(),
        'threads': torch.get_num_threads(),
        'omp_wait_policy': os.environ.get('OMP_WAIT_POLICY'),
        'load_before': busy(),
        'date': datetime.now(timezone.utc).date().isoformat(),
        'commit': _commit(),
    }

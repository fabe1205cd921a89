"""What is installed and what runs: ``python -m metricconv_mm.collect_env``."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from . import __version__
from .ops import BACKENDS
from .ops.backends import ENVIRONMENT_VARIABLE

STACKS = {
    'onedl': ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain'),
    'upstream': ('mmengine', 'mmcv-lite', 'mmcv', 'mmpretrain'),
}
OTHERS = ('torchvision', 'timm', 'triton', 'mmdet', 'mmsegmentation', 'numpy', 'tensorboard')


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def cpu() -> str:
    """The model of the processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        return next(line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def machine() -> dict[str, str | int]:
    """Where a result was obtained, in short."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu()
    return {'device': device, 'cores': cores(), 'torch': torch.__version__, 'metricconv_mm': __version__}


def openmmlab_stack() -> str:
    """Which distribution of OpenMMLab is installed, or what is missing of it."""
    found = {name: [f'{d} {v}' for d in names if (v := _version(d))] for name, names in STACKS.items()}
    present = [f'{name} ({", ".join(packages)})' for name, packages in found.items() if packages]
    missing = [module for module in ('mmengine', 'mmcv', 'mmpretrain') if find_spec(module) is None]
    if missing:
        return f"{' and '.join(present) or 'none'}; missing: {', '.join(missing)}: pip install 'metricconv_mm[onedl]' or 'metricconv_mm[mm]'"
    return ' and '.join(present) + ('; two stacks share import names: keep one' if len(present) > 1 else '')


def lines() -> Iterator[str]:
    """The report, line by line."""
    yield f'metricconv_mm: {__version__}'
    yield f'Python: {platform.python_version()} on {platform.platform()}'
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'
    yield f'torch: {torch.__version__}, {cuda}, {torch.get_num_threads()} CPU threads'
    yield f'OpenMMLab: {openmmlab_stack()}'
    for name in OTHERS:
        yield f'{name}: {_version(name) or "not installed"}'
    yield f'{ENVIRONMENT_VARIABLE}: {os.environ.get(ENVIRONMENT_VARIABLE, "not set")}'
    for name, backend in BACKENDS.items():
        yield f'backend {name}: {backend.missing() or "runs"}'


if __name__ == '__main__':
    print('\n'.join(lines()))

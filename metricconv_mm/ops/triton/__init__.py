"""Triton kernels. Triton comes with torch's CUDA wheels, and is imported at the first call that needs it, so that the package does without."""

from __future__ import annotations

import os

CAPABILITY = (8, 0)


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU: slow, for tests."""
    return os.environ.get('TRITON_INTERPRET', '').lower() in ('1', 'true', 'on', 'yes', 'y')

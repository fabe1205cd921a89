"""What torch.utils.flop_counter.FlopCounterMode needs to know of the operators.

As everywhere in that counter a multiplication and an addition are 2 FLOPs, and interpolation counts nothing (nor does it in grid_sample): an
adaptive convolution counts its contraction, exactly what nn.Conv2d of its shape counts. Predictors are counted as the convolutions that they are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import torch

from . import schema  # noqa: F401  declares the operators
from .transforms import TRANSFORMS

Shape = Sequence[int]
COUNTER = 'torch.utils.flop_counter'


def contraction(weight: Shape, out: Shape) -> int:
    """Multiply-adds between samples and kernel: every weight once for every image and output pixel."""
    return out[0] * math.prod(out[2:]) * math.prod(weight)


def _forward(input: Shape, parameter: Shape, weight: Shape, *rest: Any, out_shape: Shape, **kwargs: Any) -> int:
    return 2 * contraction(weight, out_shape)


def _backward(grad: Shape, input: Shape, parameter: Shape, weight: Shape, *rest: Any, out_shape: Any, **kwargs: Any) -> int:
    """Once for the gradient of the samples, from which those of input, parameter and mask follow, and once for that of the kernel."""
    of_input, of_parameter, of_weight, of_mask = rest[-1]
    return 2 * contraction(weight, grad) * ((of_input or of_parameter or of_mask) + of_weight)


def _register(counter: ModuleType) -> None:
    for name in TRANSFORMS:
        counter.register_flop_formula(getattr(torch.ops.metricconv_mm, name))(_forward)
        counter.register_flop_formula(getattr(torch.ops.metricconv_mm, f'{name}_backward'))(_backward)


class _OnImport(MetaPathFinder):
    """Registers the formulas when the counter is imported: it imports Triton, which takes longer than all of this package."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != COUNTER:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(self)
            _register(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if COUNTER in sys.modules:
    _register(sys.modules[COUNTER])
else:
    sys.meta_path.insert(0, _OnImport())

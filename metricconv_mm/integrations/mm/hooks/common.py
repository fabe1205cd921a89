"""What the hooks share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn
from torch.optim import Optimizer


def unwrapped(model: nn.Module) -> Any:
    """The model itself, of DistributedDataParallel and the like as well."""
    return model.module if is_model_wrapper(model) else model


def optimizers(optim_wrapper: Any) -> Iterator[Optimizer]:
    """Those of an OptimWrapper, or of every one in an OptimWrapperDict."""
    for wrapper in getattr(optim_wrapper, 'optim_wrappers', {'': optim_wrapper}).values():
        yield wrapper.optimizer

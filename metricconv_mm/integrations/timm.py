"""timm entrypoints: importing this module adds ``metric_resnet18``, ``shifted_resnet50``, ... to ``timm.list_models()``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from ..surgery import Layers, convert

try:
    import timm
    from timm.models import register_model
except ImportError as error:
    raise ImportError(f"metricconv_mm.integrations.timm needs timm, but {error}. Install it: pip install 'metricconv_mm[timm]'") from error

DEPTHS = (18, 34, 50, 101, 152)
METHODS = {'metric': 'MetricConv', 'shifted': 'ShiftedConv', 'deform': 'DeformConv', 'geodesic': 'GeodesicConv'}
DEFAULT_LAYERS = 'layer[2-4]'


def create_adaptive_model(
    model_name: str, conv: str, pretrained: bool = False, layers: Layers = DEFAULT_LAYERS, conv_cfg: dict[str, Any] | None = None, **kwargs: Any
) -> nn.Module:
    """A timm model with its 3 x 3 convolutions in ``layers`` replaced.

    Args:
        model_name: the plain model, such as 'resnet18'.
        conv: 'MetricConv', 'ShiftedConv', 'DeformConv' or 'GeodesicConv'.
        pretrained: start from the plain model's weights, kept by the converted kernels. Metric convolutions then use support='grid', so that the
            model computes what the plain one does; geodesic ones, too, which comes near to it.
        layers: as in :func:`metricconv_mm.surgery.select`.
        conv_cfg: further arguments of the convolution, such as ``dict(eps_w=1.0)``.
        kwargs: for ``timm.create_model``.
    """
    options = dict(conv_cfg or {})
    if pretrained and conv in ('MetricConv', 'GeodesicConv'):
        options.setdefault('support', 'grid')
    model = timm.create_model(model_name, pretrained=pretrained, **kwargs)
    return convert(model, conv, layers, kernel_sizes=3, **options)


def _entrypoint(method: str, depth: int) -> Callable[..., nn.Module]:
    conv, plain = METHODS[method], f'resnet{depth}'

    def entrypoint(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create_adaptive_model(plain, conv, pretrained, **kwargs)

    entrypoint.__name__ = entrypoint.__qualname__ = f'{method}_{plain}'
    entrypoint.__module__ = __name__
    entrypoint.__doc__ = f"timm's {plain} with {conv} for the 3 x 3 convolutions of layer2-4; see :func:`create_adaptive_model`."
    return entrypoint


__all__ = ['create_adaptive_model']
for _method in METHODS:
    for _depth in DEPTHS:
        _function = _entrypoint(_method, _depth)
        setattr(sys.modules[__name__], _function.__name__, _function)
        register_model(_function)

"""Puts the convolutions, and a builder that converts whole models, into mmengine's root registry, where all OpenMMLab models look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from ..geometry import pair
from ..layers import AdaptiveConv2d, on_registration
from ..surgery import convert


def conv_factory(cls: type[AdaptiveConv2d]) -> Callable[..., nn.Module]:
    """What ``conv_cfg=dict(type=...)`` calls for ``cls``.

    A 1 x 1 kernel of a convolution that samples its centre alone there stays nn.Conv2d. ``deform_groups``, which mmdet's dcn passes, is another
    word for the groups of the parameters.
    """

    def build(in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
              groups: int = 1, bias: bool = True, padding_mode: str = 'zeros', **kwargs: Any) -> nn.Module:  # fmt: skip
        standard = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        if 'deform_groups' in kwargs:
            kwargs.setdefault(cls.groups_argument, kwargs.pop('deform_groups'))
        cls.check_options(kwargs)
        if pair(kernel_size) == (1, 1) and not cls.adapts_single_tap:
            placement = {key: kwargs[key] for key in ('device', 'dtype') if key in kwargs}
            return nn.Conv2d(*standard, **placement)  # type: ignore[arg-type]
        return cls(*standard, **kwargs)

    build.__name__ = build.__qualname__ = cls.__name__
    build.__doc__ = cls.__doc__
    return build


def _register(name: str, cls: type[AdaptiveConv2d]) -> None:
    factory = conv_factory(cls)
    for key in dict.fromkeys((name, cls.__name__)):
        MODELS.register_module(name=key, module=factory, force=True)


on_registration(_register)


@MODELS.register_module(name='ConvertConvs')
def convert_convs(model: dict, conv: str = 'MetricConv', layers: Any = None, *, data_preprocessor: Any = None, **kwargs: Any) -> nn.Module:
    """Build any registered model and convert its convolutions: ``model=dict(type='ConvertConvs', model=<its dict>, conv=..., layers=...)``.

    The result is the wrapped model itself, with the same class and the same state_dict keys (and ``predictor.*`` beside the converted kernels).
    The other arguments are those of :func:`metricconv_mm.surgery.convert`.
    """
    if data_preprocessor is not None:
        model = {'data_preprocessor': data_preprocessor, **model}
    return convert(MODELS.build(model), conv, layers, **kwargs)

"""Adaptive convolutions: metric, shifted and deformable convolutions as drop-in layers for PyTorch, OpenMMLab and timm models."""

import warnings
from importlib.util import find_spec

from . import functional, geometry, surgery, transfer
from .layers import AdaptiveConv2d, DeformConv2d, GeodesicConv2d, MetricConv2d, ShiftedConv2d, register_convolution
from .ops import use_backend
from .version import __version__

if find_spec('mmengine') is not None:
    try:
        from .integrations import conv_registry as _conv_registry  # noqa: F401  registers the layers
    except ImportError as error:
        warnings.warn(f'mmengine is installed but cannot be imported ({error}): conv_cfg will not find the adaptive convolutions', stacklevel=2)

__all__ = [
    'AdaptiveConv2d',
    'DeformConv2d',
    'GeodesicConv2d',
    'MetricConv2d',
    'ShiftedConv2d',
    '__version__',
    'functional',
    'geometry',
    'register_convolution',
    'surgery',
    'transfer',
    'use_backend',
]

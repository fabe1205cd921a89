"""OpenMMLab: everything that configs name. ``custom_imports = dict(imports=['metricconv_mm.integrations.mm'])`` registers it all."""

try:
    import mmcv  # noqa: F401
    import mmpretrain  # noqa: F401
except ImportError as error:
    raise ImportError(
        f'metricconv_mm.integrations.mm needs mmcv (or mmcv-lite) and mmpretrain, but {error}. '
        "Install one of the two stacks: pip install 'metricconv_mm[onedl]', or pip install 'metricconv_mm[mm]'"
    ) from error

from .. import conv_registry
from . import analysis, backbones, compat, datasets, denoising, hooks, optim, pretrained

compat.apply()

__all__ = ['analysis', 'backbones', 'compat', 'conv_registry', 'datasets', 'denoising', 'hooks', 'optim', 'pretrained']

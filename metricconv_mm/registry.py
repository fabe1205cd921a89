"""mmengine's entry into this package: the scope prefix ``metricconv_mm.`` in a config imports what it names, without custom_imports."""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import Registry

_LOCATIONS = ['metricconv_mm.integrations.mm']

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='metricconv_mm', locations=_LOCATIONS)
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='metricconv_mm', locations=_LOCATIONS)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='metricconv_mm', locations=_LOCATIONS)
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='metricconv_mm', locations=_LOCATIONS)
OPTIM_WRAPPERS = Registry('optim_wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='metricconv_mm', locations=_LOCATIONS)

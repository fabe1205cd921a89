"""The recipes of the paper: which there are, what their names promise, and that each trains."""

import itertools
import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.config import Config
from mmengine.registry import HOOKS, init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from metricconv_mm import AdaptiveConv2d

from .networks import PARAMETERS, build_without_memory

CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs/resnet').glob('*.py'))
DATA = {'mnist': 10, 'fashion-mnist': 10, 'cifar10': 10, 'cifar100': 100}
NAME = re.compile(
    r'resnet(?P<depth>\d+)_(?P<method>[a-z-]+)-(?P<layers>layer2-4|layer4)(?P<fixed>-fkw)?(?P<transfer>-tl)?(?P<fair>-fair)?'
    r'_1xb128-240e_(?P<data>[a-z0-9-]+)'
)
RECIPES = {path.stem: NAME.fullmatch(path.stem).groupdict() for path in CONFIGS if NAME.fullmatch(path.stem)}
ADAPTIVE = ('deform', 'shifted', 'metric')


@cache
def load(name):
    return Config.fromfile(next(path for path in CONFIGS if path.stem == name))


def build(cfg):
    init_default_scope('mmpretrain')
    return MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})


def expected_names():
    for data in DATA:
        for method, layers in itertools.product(('standard', *ADAPTIVE), ('layer2-4', 'layer4')):
            yield 18, method, layers, '', data
        for method in ('standard', *ADAPTIVE):  # Tables 3 and 4
            yield 18, method, 'layer2-4', '-tl', data
        for method, kind in itertools.product(ADAPTIVE, ('-fkw', '-fkw-tl')):
            yield 18, method, 'layer2-4', kind, data
        for method, kind in itertools.product(('deform', 'shifted'), ('-fair', '-tl-fair')):
            yield 18, method, 'layer2-4', kind, data
    for depth, method in itertools.product((18, 50, 152), ('standard', *ADAPTIVE, 'metric-riemann')):  # Table 11
        yield depth, method, 'layer4', '-tl', 'cifar100'


def test_every_table_of_the_paper_has_its_configs():
    names = [f'resnet{depth}_{method}-{layers}{kind}_1xb128-240e_{data}' for depth, method, layers, kind, data in expected_names()]
    assert len(set(names)) == 103 and set(names) == set(RECIPES)


@pytest.mark.parametrize('name', RECIPES)
def test_a_config_is_what_its_name_says(name):
    cfg, recipe = load(name), RECIPES[name]
    depth, method, data = int(recipe['depth']), recipe['method'], recipe['data']
    backbone, head, hooks = cfg.model.backbone, cfg.model.head, cfg.default_hooks
    assert backbone.depth == depth and head.in_channels == (512 if depth == 18 else 2048)
    assert tuple(backbone.stages_with_adaptive) == (False, *[recipe['layers'] == 'layer2-4'] * 2, True)
    assert head.num_classes == cfg.data_preprocessor.num_classes == DATA[data]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root == f'data/{data.replace("-", "_")}' and loader.batch_size == 128
        assert loader.dataset.type == {'cifar10': 'LocalCIFAR10', 'cifar100': 'LocalCIFAR100'}.get(data, 'IDXDataset')
    assert (cfg.train_dataloader.dataset.pipeline[0].type == 'RandomResizedCrop') == data.startswith('cifar')

    adaptive, metric = dict(backbone.adaptive_cfg), method.startswith('metric')
    types = {'standard': 'Conv2d', 'deform': 'DeformConv', 'shifted': 'ShiftedConv', 'metric': 'MetricConv', 'metric-riemann': 'MetricConv'}
    assert adaptive.pop('type') == types[method]
    wanted = {} if method == 'standard' else {'kernel_init': 'kaiming' if recipe['fair'] else 'uniform'}
    if metric:
        wanted |= dict(encoding='spectral_scaled', drift='sigmoid_detached', support='onion', eps_w=0.5, scale_range=(0.1, 1.5))
    if method == 'metric-riemann':
        wanted['eps_w'] = 1.0
    if recipe['fixed']:
        wanted |= dict(fixed_kernel=True, **(dict(encoding='spectral', eps_L=0.01) if metric else {}))
    assert adaptive == wanted

    penalised = metric and data.startswith('cifar') and not recipe['fixed']
    assert hooks.get('predictor_l1') == (dict(type='PredictorL1Hook', weight=5000) if penalised else None)
    warm = penalised and data == 'cifar10' and bool(recipe['transfer'])
    assert hooks.get('predictor_warmup') == (dict(type='PredictorWarmupHook', epochs=50) if warm else None)
    files = {18: 'resnet18-f37072fd.pth', 50: 'resnet50-11ad3fa6.pth', 152: 'resnet152-f82ba261.pth'}
    assert (hooks.get('pretrained') or {}).get('checkpoint') == (f'checkpoints/{files[depth]}' if recipe['transfer'] else None)
    init_default_scope('mmpretrain')
    for key in hooks.keys() - {'visualization'}:  # which needs a run
        HOOKS.build(hooks[key])
    assert 'custom_hooks' not in cfg, "a child's custom_hooks would replace them"


def distinct_models():
    """A config for every model; those that differ in the data set, or in what happens around the model, count once."""
    found = {}
    for path in CONFIGS:
        cfg = load(path.stem)
        found.setdefault(str({**cfg.model, 'head': {**cfg.model.head, 'num_classes': 0}}), path.stem)
    return sorted(found.values())


@pytest.mark.parametrize('name', distinct_models())
def test_a_model_trains_a_step(name):
    """At an eighth of the width."""
    cfg = deepcopy(load(name))
    cfg.model.backbone.update(base_channels=8, stem_channels=8)
    cfg.model.head.in_channels = 8 * (8 if cfg.model.backbone.depth == 18 else 32)
    model = build(cfg)
    model.init_weights()
    classes = cfg.model.head.num_classes
    batch = {
        'inputs': [torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for _ in range(2)],
        'data_samples': [DataSample().set_gt_label(label) for label in (0, classes - 1)],
    }
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    losses['loss'].backward()
    assert losses['loss'].isfinite()
    without = [key for key, p in model.named_parameters() if not p.requires_grad or p.grad is None or not p.grad.isfinite().all()]
    assert not without, f'no finite gradient: {without}'

    replaced = {key: layer for key, layer in model.named_modules() if isinstance(layer, AdaptiveConv2d)}
    assert bool(replaced) == ('standard' not in name or '-fkw' in name)  # a box filter is an adaptive layer held still
    convolutions = {key: m for key, m in model.named_modules() if isinstance(m, torch.nn.Conv2d | AdaptiveConv2d)}
    fixed = {key for key, layer in convolutions.items() if not isinstance(layer.weight, torch.nn.Parameter)}
    assert fixed == (set(replaced) if '-fkw' in name else set())
    for key in fixed:
        kernel = replaced[key].weight
        torch.testing.assert_close(kernel, torch.full_like(kernel, 1 / kernel[0].numel()))


def test_parameters_are_as_many_as_the_authors():
    counted = {}
    for name, recipe in RECIPES.items():
        key = int(recipe['depth']), recipe['method'].removesuffix('-riemann'), recipe['layers'], 'fixed' if recipe['fixed'] else 'learnt'
        if recipe['data'] == 'cifar100' and key not in counted:
            counted[key] = sum(p.numel() for p in build_without_memory(load(name)).parameters())
    # the authors' ResNet-50 that adapts in layer2-4 is in none of the paper's tables
    assert counted == {key: count for key, count in PARAMETERS.items() if key[0] != 50 or key[2] == 'layer4'}


def test_optimizer_and_schedule_are_the_papers():
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import PARAM_SCHEDULERS

    init_default_scope('mmpretrain')
    for path in CONFIGS:
        cfg = load(path.stem)
        wrapper = build_optim_wrapper(torch.nn.Linear(2, 2), cfg.optim_wrapper)
        schedules = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
        for schedule in map(dict, schedules):
            schedule.pop('convert_to_iter_based', None)
            PARAM_SCHEDULERS.build({**schedule, 'optimizer': wrapper})
        assert schedule.get('end', schedule['T_max']) == cfg.train_cfg.max_epochs
        assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size
        if path.stem in RECIPES:
            assert (cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer) == (240, dict(type='Adam', lr=1e-4, weight_decay=1e-4))

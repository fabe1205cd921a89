"""The recipes in configs/upgrade."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS
from mmpretrain.structures import DataSample

from metricconv_mm import AdaptiveConv2d
from metricconv_mm.integrations import upgrade

CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs/upgrade').glob('*.py'))


def model_of(cfg):
    model = upgrade.build(cfg)
    model.init_weights()
    return model


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_recipe_trains_a_step(path):
    cfg = Config.fromfile(path)
    model = model_of(cfg).train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    size = 64 if path.stem.endswith('in1k') else 28
    images = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(2)]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = model.train_step({'inputs': images, 'data_samples': [DataSample().set_gt_label(label) for label in (0, 3)]}, optimizer)
    assert losses['loss'].isfinite()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert bool(frozen) == ('finetune' in path.stem)
    assert all(name.startswith(('backbone.conv1', 'backbone.bn1', 'backbone.layer1')) for name in frozen)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert not moved & frozen
    adaptive = [name for name, layer in model.named_modules() if isinstance(layer, AdaptiveConv2d)]
    assert bool(adaptive) == ('metric' in path.stem)
    assert all(f'{name}.predictor.weight' in moved for name in adaptive)


def test_predictors_learn_at_a_tenth_of_the_rate():
    cfg = Config.fromfile(next(path for path in CONFIGS if 'in1k' in path.stem))
    model = model_of(cfg)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(group['params'][0])]: group['lr'] for group in build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups}
    base = cfg.optim_wrapper.optimizer.lr
    assert all(rate == pytest.approx(base * (0.1 if 'predictor' in name else 1)) for name, rate in rates.items())
    assert sum('predictor' in name for name in rates) == 2 * 9
    assert HOOKS.build(cfg.custom_hooks[0]).checkpoint == 'resnet50.pth'


def test_the_upgraded_network_starts_as_the_standard_one():
    by_name = {path.stem.removeprefix('resnet18-w16_').removesuffix('_1xb64-1e_fashion-mnist-12k'): path for path in CONFIGS}
    old, new = (upgrade.build(Config.fromfile(by_name[name])) for name in ('finetune', 'metric-layer2-4-finetune'))
    image = torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8)
    assert upgrade.take_over(old, new, lambda model: upgrade.mm_outputs(model, image)) <= upgrade.TOLERANCE

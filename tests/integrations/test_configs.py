from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / 'configs/resnet').glob('*.py'))
SIZES = {'mnist': 28, 'fashion-mnist': 28, 'fashion-mnist-12k': 28, 'cifar10': 32, 'cifar100': 32}


def test_all_methods_stages_and_data_sets_are_there():
    names = {path.stem for path in CONFIGS}
    for method in ('standard', 'deform', 'shifted', 'metric'):
        for layers in ('layer2-4', 'layer4'):
            for data in ('mnist', 'fashion-mnist', 'cifar10', 'cifar100'):
                assert f'resnet18_{method}-{layers}_1xb128-240e_{data}' in names


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_builds_and_trains_a_step(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    model.init_weights()
    size = SIZES[path.stem.rsplit('_', 1)[1]]
    classes = cfg.model.head.num_classes
    assert classes == cfg.data_preprocessor.num_classes
    batch = {
        'inputs': [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(2)],
        'data_samples': [DataSample().set_gt_label(label) for label in (0, classes - 1)],
    }
    data = model.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    losses['loss'].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without, f'no finite gradient: {without}'
    assert len(list(model.parameters())) == len(list(p for p in model.parameters() if p.requires_grad))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_optimizer_and_schedule_can_be_built(path):
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import PARAM_SCHEDULERS

    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    wrapper = build_optim_wrapper(torch.nn.Linear(2, 2), cfg.optim_wrapper)
    schedules = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
    for schedule in map(dict, schedules):
        schedule.pop('convert_to_iter_based', None)
        PARAM_SCHEDULERS.build({**schedule, 'optimizer': wrapper})
    assert schedule.get('end', schedule['T_max']) == cfg.train_cfg.max_epochs
    assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size

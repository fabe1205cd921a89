"""What transfer learning keeps of torchvision's ImageNet weights, in the recipes of the paper."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('torchvision')
import torchvision
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS, MODELS, init_default_scope

from metricconv_mm.transfer import load_pretrained

from .networks import build_without_memory

FOLDER = Path(__file__).resolve().parents[2] / 'configs/resnet'
# data sets differ in the classifier alone
RECIPES = sorted(path.stem for path in FOLDER.glob('*-tl*_cifar100.py'))


def state(depth):
    """Names and shapes of torchvision's weights."""
    with torch.device('meta'):
        return getattr(torchvision.models, f'resnet{depth}')().state_dict()


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def hook_of(cfg, **changes):
    return HOOKS.build({**cfg.default_hooks.pretrained, **changes})


def is_fresh(name, shape, layers):
    """Whether the authors create this tensor anew: 3x3 kernels of the replaced stages, the stem, layer4's downsampling, the classifier."""
    stages = {'layer2-4': ('layer2', 'layer3', 'layer4'), 'layer4': ('layer4',)}[layers]
    kernel = tuple(shape[2:]) == (3, 3) and name.startswith(stages)
    return kernel or name in ('conv1.weight', 'layer4.0.downsample.0.weight', 'fc.weight', 'fc.bias')


@pytest.mark.parametrize('name', RECIPES)
def test_exactly_what_survives_is_loaded(name):
    cfg = load(name)
    model = build_without_memory(cfg)
    given = state(cfg.model.backbone.depth)
    report = load_pretrained(model, given, **hook_of(cfg).options)
    layers = 'layer2-4' if 'layer2-4' in name else 'layer4'
    fresh = {key for key, tensor in given.items() if is_fresh(key, tensor.shape, layers)}
    # stem, downsampling, weight and bias of the classifier, and the kernels: 2 in a basic block, 1 in a bottleneck
    assert len(fresh) == 4 + (12 if layers == 'layer2-4' else 4 if cfg.model.backbone.depth == 18 else 3)
    assert set(report.dropped) == fresh
    assert set(report.loaded) == {f'backbone.{key}' for key in given if key not in fresh}
    assert sum(why == 'the kernel is fixed' for why in report.dropped.values()) == (12 if '-fkw' in name else 0)
    assert set(report.initialised) == set(model.state_dict()) - set(report.loaded)
    assert {key for key, why in report.initialised.items() if why == 'new in this model'} == {k for k in model.state_dict() if '.predictor.' in k}


@pytest.fixture(scope='module')
def weights_file(tmp_path_factory):
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp('weights') / 'resnet18.pth'
    weights = torchvision.models.resnet18().state_dict()
    torch.save({key: torch.rand_like(value) if value.is_floating_point() else value for key, value in weights.items()}, file)
    return file


@pytest.mark.parametrize('method', ['standard', 'shifted'])
def test_the_hooks_load_what_survives_and_start_the_rest_anew(method, weights_file):
    cfg = load(f'resnet18_{method}-layer2-4-tl_1xb128-240e_mnist')
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    model.init_weights()
    runner = SimpleNamespace(iter=0, model=model, cfg=cfg, logger=MMLogger.get_instance('test'))
    for hook in (HOOKS.build(cfg.default_hooks.fresh), hook_of(cfg, checkpoint=str(weights_file))):
        hook.before_train(runner)
    weights, learnt = torch.load(weights_file), model.state_dict()
    for key, value in weights.items():
        ours = learnt['head.' + key if key.startswith('fc.') else 'backbone.' + key]
        if not is_fresh(key, value.shape, 'layer2-4'):
            torch.testing.assert_close(ours, value, rtol=0, atol=0)
        elif method == 'shifted' and key.startswith('layer') and 'downsample' not in key:
            assert (ours == 1 / ours[0].numel()).all()
        else:
            # torch's own start is uniform up to 1 / sqrt(fan_in), mmpretrain's is not
            bound = learnt['head.fc.weight'].shape[1] ** -0.5 if key == 'fc.bias' else ours[0].numel() ** -0.5
            assert 0.7 * bound < ours.abs().max() <= bound, key


def test_a_missing_file_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load('resnet50_metric-layer4-tl_1xb128-240e_cifar100')
    with pytest.raises(FileNotFoundError) as error:
        hook_of(cfg).before_train(SimpleNamespace(iter=0, model=None, cfg=cfg))
    message, file = str(error.value), 'checkpoints/resnet50-11ad3fa6.pth'
    assert f"no checkpoint '{file}' (that is {tmp_path / file})" in message
    assert f'curl -L --create-dirs -o {file} https://download.pytorch.org/models/resnet50-11ad3fa6.pth' in message
    assert '--cfg-options default_hooks.pretrained.checkpoint=FILE' in message


def test_the_option_is_found_where_the_config_has_the_hook():
    custom = Config(dict(custom_hooks=[dict(type='EMAHook'), dict(type='metricconv_mm.PretrainedWeights', checkpoint='mine.pth')]))
    hook = HOOKS.build(dict(type='PretrainedWeights', checkpoint='mine.pth'))
    with pytest.raises(FileNotFoundError, match=r'Put it there; or .* --cfg-options custom_hooks\.1\.checkpoint=FILE'):
        hook.before_train(SimpleNamespace(iter=0, model=None, cfg=custom))


@pytest.mark.parametrize(('here', 'there'), itertools.permutations((18, 50, 152), 2))
def test_weights_of_another_depth_are_refused(here, there):
    cfg = load(f'resnet{here}_standard-layer4-tl_1xb128-240e_cifar100')
    with pytest.raises(ValueError, match='holds the weights of another network'):
        load_pretrained(build_without_memory(cfg), state(there), **hook_of(cfg).options)

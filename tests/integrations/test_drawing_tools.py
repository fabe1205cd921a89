"""The tools that draw trained models, in this process; what they draw is tested in tests/visualization."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.config import Config

from metricconv_mm.integrations import upgrade
from metricconv_mm.integrations.mm import trained

pytestmark = pytest.mark.stack
ROOT = Path(__file__).resolve().parents[2]
PNG = b'\x89PNG'


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a tool; returns what it printed, or why it stopped."""

    def call(name, *arguments, fails=False):
        spec = importlib.util.spec_from_file_location(name, ROOT / f'tools/{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        reason = ''
        try:
            module.main()
        except SystemExit as stop:
            assert fails, stop
            reason = str(stop)
        else:
            assert not fails
        printed = capsys.readouterr()
        return printed.out + printed.err + reason

    return call


@pytest.fixture(scope='module')
def models(tiny_config, tmp_path_factory):
    """A metric and a standard network, with configs, checkpoints and 32 test images in 10 classes."""
    folder = tmp_path_factory.mktemp('models')
    pairs = []
    for name, conv in (('metric', 'MetricConv'), ('standard', 'Conv2d')):
        config = folder / f'tiny_{name}_data.py'
        config.write_text(f"_base_ = '{tiny_config}'\nmodel = dict(backbone=dict(adaptive_cfg=dict(_delete_=True, type='{conv}')))\n")
        torch.manual_seed(0)
        model = upgrade.build(Config.fromfile(config))
        torch.save({'state_dict': model.state_dict()}, folder / f'{name}.pth')
        pairs.append((config, folder / f'{name}.pth'))
    return pairs


@pytest.fixture
def cams(models, call, tmp_path):
    pytest.importorskip('pytorch_grad_cam', reason='pip install grad-cam')
    return lambda *arguments, **kwargs: call('draw_cams', *models[0], *models[1], '--out', tmp_path / 'new/cams.png', *arguments, **kwargs)


@pytest.mark.parametrize(
    'arguments',
    [['--indices', 3, 0], ['--classes', 'bag', 'Ankle boot', '--images-per-class', 2, '--layer', 'layer2.1', '--labels', 'one', 'two'],
     ['--indices', 5, '--target', 'predicted'], ['--indices', 5, '--target', 'Coat']],
)  # fmt: skip
def test_models_are_drawn_side_by_side(arguments, cams, tmp_path):
    assert 'cams.png' in cams(*arguments)
    assert (tmp_path / 'new/cams.png').read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--indices', 32], 'image 32: the test set has images 0 to 31'),
        (['--classes', 'bagg'], "no class 'bagg': do you mean Bag"),
        (['--classes', 'zebra'], "no class 'zebra': there are T-shirt/top, Trouser"),
        (['--indices', 0, '--layer', 'layer4.conv1'], 'do you mean backbone.layer4'),
        (['--indices', 0, '--layer', 'head.fc'], 'expected a layer with an output [1, c, h, w]'),
        (['--indices', 0, '--labels', 'one'], '--labels: expected 2'),
        (['--indices', 0, '--target', 'zebra'], "no class 'zebra'"),
        (['--indices', 0, '--out', 'cams.xyz'], 'xyz'),
        ([], '--indices --classes'),
    ],
)
def test_what_cannot_be_drawn_is_said(arguments, message, cams, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in cams(*arguments, fails=True)
    assert not list(tmp_path.glob('**/*.png'))


def test_models_that_do_not_go_together_are_refused(models, call, tmp_path):
    (metric, _), (standard, weights) = models
    assert 'checkpoint of another model' in call('draw_cams', metric, weights, '--indices', 0, fails=True)
    assert 'pairs of a config and a checkpoint' in call('draw_cams', metric, weights, standard, '--indices', 0, fails=True)
    assert "no checkpoint 'none.pth'" in call('draw_cams', metric, 'none.pth', '--indices', 0, fails=True)
    other = tmp_path / 'other.py'
    other.write_text(f"_base_ = '{standard}'\nmodel = dict(head=dict(num_classes=7))\ndata_preprocessor = dict(num_classes=7)\n")
    torch.save({'state_dict': upgrade.build(Config.fromfile(other)).state_dict()}, tmp_path / 'other.pth')
    refused = call('draw_cams', standard, weights, other, tmp_path / 'other.pth', '--indices', 0, fails=True)
    assert f'{other} has 7 classes' in refused and 'has 10' in refused


def test_columns_are_named_by_what_differs(call):
    spec = importlib.util.spec_from_file_location('draw_cams', ROOT / 'tools/draw_cams.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.headings([('c/r18_metric_x.py', 'a.pth'), ('c/r18_standard_x.py', 'b.pth')]) == ['metric', 'standard']
    assert tool.headings([('c/r18_x.py', 'w/seed_0/last.pth'), ('c/r18_x.py', 'w/seed_1/last.pth')]) == ['seed_0', 'seed_1']
    assert tool.headings([('c/r18_x.py', 'a.pth'), ('c/r50_long_x.py', 'b.pth')]) == ['r18_x', 'r50_long_x']
    assert tool.headings([('c/r18_x.py', 'a.pth')]) == ['r18_x']


@pytest.fixture
def picture(tmp_path):
    image = pytest.importorskip('PIL.Image')
    path = tmp_path / 'picture.png'
    image.fromarray(np.random.default_rng(0).integers(0, 256, (14, 10, 4), dtype=np.uint8)).save(path)
    return path


def test_balls_are_drawn_over_any_picture(models, picture, call, tmp_path):
    for options in ([], ['--size', 12], ['--size', 9, 12, '--layers', 'backbone.layer4.0.conv1']):
        call('draw_balls', *models[0], '--image', picture, '--out', tmp_path / 'balls.png', *options)
        assert (tmp_path / 'balls.png').read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--image', 'none.png'], "no picture 'none.png'"),
        (['--image', __file__], 'is no picture that Pillow can read'),
        (['--index', 99], 'image 99: the test set has images 0 to 31'),
        (['--size', 12], '--size: expected one or two numbers from 1 to 10000, and --image'),
        (['--layers', 'conv9'], "got ['conv9']"),
    ],
)
def test_what_has_no_balls_is_said(arguments, message, models, call, tmp_path):
    assert message in call('draw_balls', *models[0], '--out', tmp_path / 'balls.png', *arguments, fails=True)


def test_pictures_go_through_the_test_pipeline(models):
    """Resized as the config says, and in the order of channels that the model reads."""
    cfg, model = trained.load_trained(*map(str, models[0]))
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    plain = trained.prepare(cfg, model, picture)
    assert (trained.picture_of(model, plain) == picture).all() and trained.input_of(model, plain).shape == (1, 3, 30, 40)
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=16), dict(type='CenterCrop', crop_size=12), dict(type='PackInputs'),
    ]  # fmt: skip
    assert trained.input_of(model, trained.prepare(cfg, model, picture)).shape == (1, 3, 12, 12)
    model.data_preprocessor.to_rgb = True
    cfg.test_dataloader.dataset.pipeline = [dict(type='PackInputs')]
    bgr = trained.prepare(cfg, model, picture)
    assert (bgr['inputs'].permute(1, 2, 0).numpy() == picture[..., ::-1]).all() and (trained.picture_of(model, bgr) == picture).all()
    seen = trained.input_of(model, bgr)
    model.data_preprocessor.to_rgb = False
    assert torch.equal(seen, trained.input_of(model, plain))


def test_curves_name_what_differs(call, tmp_path):
    for name in ('a/seed_0', 'a/seed_1', 'b'):
        folder = tmp_path / name / '20260101_000000/vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(json.dumps({'loss': 1.0, 'epoch': 1, 'iter': 1, 'step': 1}) + '\n')
    runs = [tmp_path / 'a/seed_0', tmp_path / 'a/seed_1', tmp_path / 'b']
    out = ['--out', tmp_path / 'curves.png']
    call('plot_curves', *runs, *out, '--labels', 'one', 'two', '--log', 'loss')
    assert (tmp_path / 'curves.png').read_bytes().startswith(PNG)
    assert 'no run has loss2: choose from loss' in call('plot_curves', *runs, *out, '--keys', 'loss2', fails=True)
    assert 'expected 2 different names, for a, b' in call('plot_curves', *runs, *out, '--labels', 'one', fails=True)
    assert 'more than once' in call('plot_curves', runs[0], runs[0], *out, fails=True)

"""The experiment of fine-tuning upgraded detectors and segmenters, tiny: how well anything is detected is not tested."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch

for package in ('mmpretrain', 'timm', 'torchvision', 'pycocotools'):
    pytest.importorskip(package)
pytest.importorskip('torchmetrics', reason="pip install 'metricconv_mm[eval]'")
TOOL = Path(__file__).resolve().parents[2] / 'tools/finetune_upgraded.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('finetune_upgraded', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def data(tool):
    return tool.scenes('t10k', 20, 0)


def test_boxes_are_those_of_the_masks(tool, data):
    assert {1, 2} <= {len(target['boxes']) for _, target, _ in data} <= {1, 2, 3}
    for image, target, classes in data:
        assert image.shape == (3, 64, 64) and image.min() >= 0 and image.max() <= 1
        inside = torch.zeros(64, 64, dtype=torch.bool)
        for (left, top, right, bottom), label in zip(target['boxes'].int().tolist(), target['labels'].tolist(), strict=True):
            own = classes[top:bottom, left:right] == label
            # the class of the garment and no other, up to every side of its box
            assert own.any(0)[[0, -1]].all() and own.any(1)[[0, -1]].all() and (own | (classes[top:bottom, left:right] == 0)).all()
            inside[top:bottom, left:right] = True
        assert not classes[~inside].any()
    assert all(torch.equal(one[0], other[0]) for one, other in zip(data, tool.scenes('t10k', 20, 0), strict=True))


def test_perfect_predictions_score_100_and_wrong_ones_less(tool, data):
    perfect = [{**target, 'scores': torch.ones(len(target['labels']))} for _, target, _ in data]
    assert tool.score('detector', perfect, data) == pytest.approx(100)
    # IoU 0.5 to 0.95 in ten steps; boxes of 3/4 of the height reach six of them
    short = [{**p, 'boxes': p['boxes'] - 0.25 * (p['boxes'][:, 3:] - p['boxes'][:, 1:2]) * torch.tensor([0, 0, 0, 1])} for p in perfect]
    assert tool.score('detector', short, data) == pytest.approx(60)
    wrong = [{**p, 'labels': p['labels'] % 4 + 1} for p in perfect]
    assert tool.score('detector', wrong, data) < 50
    masks = [classes for _, _, classes in data]
    assert tool.score('segmenter', masks, data) == pytest.approx(100)
    counts = torch.stack(masks).flatten().bincount(minlength=5)
    assert tool.score('segmenter', [0 * mask for mask in masks], data) == pytest.approx(100 * float(counts[0] / counts.sum()) / 5, rel=1e-4)


@pytest.mark.parametrize('task', ['detector', 'segmenter'])
def test_plain_and_upgraded_models_train_with_finite_losses(tool, data, task):
    model = tool.build(task)
    for side in ('plain', 'upgraded'):
        if side == 'upgraded':
            tool.convert(model, 'MetricConv', tool.CONVERTED[task], kernel_sizes=3, support='grid')
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        losses = tool.train(model, task, data[:8], epochs=2, rate=1e-3, seed=0, batch_size=4)
        assert len(losses) == 4 and all(map(math.isfinite, losses))
        assert all(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters() if 'predictor.weight' in name)
    assert sum('predictor.weight' in name for name in before) == {'detector': 15, 'segmenter': 13}[task]


def test_one_run_compares_both_sides(tool, capsys, tmp_path):
    tool.main(
        ['--scenes', '16', '--test-scenes', '3', '--epochs', '1', '--finetune-epochs', '1', '--seeds', '1', '--output', str(tmp_path / 'o.json')]
    )
    results = json.loads((tmp_path / 'o.json').read_text())
    assert list(results) == ['detector', 'segmenter']
    for result in results.values():
        before, after = result['trained'], result['finetuned']
        assert result['difference'] < 1e-4 and before['upgraded'] == pytest.approx(before['plain'], abs=0.5)
        assert all(0 <= value <= 100 for value in (*before.values(), *after['plain'], *after['upgraded']))
        assert len(after['plain']) == len(after['upgraded']) == 1
    assert 'detector, box AP' in capsys.readouterr().out


def test_wrong_options_are_refused(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(['--scenes', '3'])
    assert 'expected at least 16, got 3' in capsys.readouterr().err

"""The benchmark of whole training steps, on a tiny network; no test looks at how long anything takes."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')
pytestmark = pytest.mark.stack
TOOL = Path(__file__).resolve().parents[2] / 'tools/benchmark_train.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('benchmark_train', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_run_measures_all_sides(tool, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tool, 'measure_peak', lambda side, arguments: 2**20)
    tool.main(['--quick', '--device', 'cpu', '--output', str(tmp_path / 'out.json')])
    result = json.loads((tmp_path / 'out.json').read_text())
    assert list(result['sides']) == list(tool.SIDES)
    for side in result['sides'].values():
        assert side['epoch_s'] == pytest.approx(25000 * side['median_ms'] / 1e3) and side['runs'] == 3
    assert result['settings']['batch_size'] == 2 and result['machine']['torch'] == torch.__version__
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table if line.startswith(tool.SIDES)] == list(tool.SIDES)


def test_the_peak_is_that_of_a_fresh_process(tool):
    # this one has memory to spare from the tests before, which a small step would fit into
    assert tool.measure_peak('metric', ['--quick', '--device', 'cpu', '--width', '8', '--size', '32', '--batch-size', '8']) > 2**20


def test_sides_that_do_not_compute_the_same_are_not_timed(tool, monkeypatch):
    monkeypatch.setattr(tool.TorchvisionMetricConv2d, 'grid', lambda self, like: 0.5 + super(tool.TorchvisionMetricConv2d, self).grid(like))
    with pytest.raises(SystemExit, match='differs from the one built on torchvision'):
        tool.main(['--quick', '--device', 'cpu', '--sides', 'metric', 'torchvision'])


@pytest.mark.parametrize('arguments', [['--rounds', '0'], ['--sides', 'flex'], *([] if torch.cuda.is_available() else [['--device', 'cuda']])])
def test_wrong_options_are_refused(tool, arguments, capsys):
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert 'expected at least 1' in (error := capsys.readouterr().err) or 'invalid choice' in error or 'torch sees no GPU' in error

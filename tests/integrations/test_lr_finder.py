import math
import runpy
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper

from metricconv_mm.integrations.mm.lr_finder import range_test

CONFIG = Path(__file__).resolve().parents[2] / 'configs/denoising/metric-k5-eps0.1_fixed-kernel_1xb32-100e_bsds300.py'


class Parabola(BaseModel):
    """loss = x^2 / 2: gradient descent diverges at rates above 2."""

    def __init__(self, start=1.0):
        super().__init__()
        self.x = torch.nn.Parameter(torch.tensor(start))

    def forward(self, inputs, mode='tensor'):
        return {'loss': self.x.square() / 2 * inputs.mean()}


def optimiser(model):
    return OptimWrapper(torch.optim.SGD([{'params': [model.x], 'lr': 0.01}, {'params': [torch.nn.Parameter(torch.ones(1))], 'lr': 0.001}], lr=0.1))


@pytest.fixture
def loader():
    return [{'inputs': torch.ones(2)} for _ in range(3)]


def test_a_test_stops_where_training_diverges(loader):
    model = Parabola()
    test = range_test(model, loader, optimiser(model), 1e-3, 1e6, 200, momentum=0.5)
    assert test.diverged and 2 < test.rates[-1] < 1e5 and len(test.rates) == len(test.losses) == len(test.smoothed) < 200
    assert 1e-3 < test.suggestion < 2
    assert test.rates[1] / test.rates[0] == pytest.approx(test.rates[9] / test.rates[8]) and test.rates[0] == pytest.approx(1e-3)


def test_losses_are_those_of_training_at_growing_rates(loader):
    model, x = Parabola(), 1.0
    test = range_test(model, loader, optimiser(model), 0.1, 0.4, 3)
    for rate, loss in zip((0.1, 0.2, 0.4), test.losses, strict=True):
        assert loss == pytest.approx(x * x / 2)
        x -= rate * x
    assert not test.diverged


def test_the_model_and_the_rates_are_left_as_they_were(loader):
    model = Parabola()
    wrapper = optimiser(model)
    range_test(model, loader, wrapper, 0.1, 10, 5)
    assert model.x.item() == 1 and [group['lr'] for group in wrapper.optimizer.param_groups] == [0.01, 0.001]


def test_rates_of_groups_keep_their_ratio(loader):
    model = Parabola()
    wrapper, seen = optimiser(model), []
    step = model.train_step
    model.train_step = lambda data, w: (seen.append([g['lr'] for g in wrapper.optimizer.param_groups]), step(data, w))[1]
    range_test(model, loader, wrapper, 0.1, 0.2, 3)
    assert all(first == pytest.approx(10 * second) for first, second in seen)


def test_a_loss_that_only_grows_suggests_nothing(loader):
    model = Parabola()
    test = range_test(model, loader, optimiser(model), 3.0, 5.0, 20, momentum=0.1)
    assert test.suggestion is None and test.diverged


def test_what_cannot_be_tested_is_refused(loader):
    model = Parabola()
    for low, high in ((0, 1), (1, 1), (2, 1), (1, 1e300), (1, math.inf)):
        with pytest.raises(ValueError, match='0 < low < high'):
            range_test(model, loader, optimiser(model), low, high)
    with pytest.raises(ValueError, match='at least 3 iterations'):
        range_test(model, loader, optimiser(model), 1, 2, 2)
    with pytest.raises(ValueError, match='no batches'):
        range_test(model, [], optimiser(model), 1, 2)
    broken = Parabola(math.nan)
    with pytest.raises(FloatingPointError, match='not finite at the lowest learning rate'):
        range_test(broken, loader, optimiser(broken), 1, 2)


@pytest.mark.stack
def test_any_config_can_be_tested(run_tool, image_folder, tmp_path):
    output = run_tool(
        'tools/lr_finder.py', CONFIG, '--low', 1e-3, '--high', 1e9, '--iterations', 30, '--out', tmp_path / 'lr.png',
        '--cfg-options', f'train_dataloader.dataset.data_root={image_folder}', 'train_dataloader.dataset.size=[16,16]',
    )  # fmt: skip
    assert 'suggestion: ' in output or 'no suggestion' in output
    assert [path.name for path in tmp_path.iterdir()] == ['lr.png'] and (tmp_path / 'lr.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((CONFIG.with_suffix('.md'),), 'no config'),
        ((CONFIG.parent / 'paper.json', '--out', 'lr'), 'names no picture'),
        ((Path(__file__).parents[2] / 'README.md',), 'README.md is no config: expected a file that ends in one of .py'),
        ((CONFIG, '--cfg-options', 'model.kernel_size=4'), 'expected an odd kernel size'),
        ((CONFIG, '--cfg-options', 'train_dataloader.dataset.data_root=/no/such'), 'no folder of images'),
    ],
)
def test_what_is_no_config_is_said(monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['lr_finder.py', *map(str, arguments)])
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(Path(__file__).parents[2] / 'tools/lr_finder.py'), run_name='__main__')
    assert not list(tmp_path.iterdir())

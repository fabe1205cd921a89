"""Layers that a checkpoint leaves alone, and what to go back to when the loss is not finite."""

import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from metricconv_mm.integrations.mm.hooks.checkpoints import last_good_checkpoint

pytestmark = pytest.mark.stack
STILL = dict(optimizer=dict(type='SGD', lr=0.0))


class Poison(Hook):
    """Makes a parameter NaN before the training iteration of this number."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            runner.model.head.weight.data[0, 0] = float('nan')


@pytest.fixture
def pretrained(tmp_path, toy_model):
    """A checkpoint of the toy with standard convolutions, all sevens."""
    state = {name: torch.full_like(value, 7.0) for name, value in toy_model().state_dict().items() if 'predictor' not in name}
    torch.save({'state_dict': state}, tmp_path / 'plain.pth')
    return str(tmp_path / 'plain.pth')


def sevens(model):
    return {name for name, parameter in model.named_parameters() if (parameter == 7).all()}


@pytest.mark.filterwarnings('ignore:.*checkpoint of a plain convolution')
@pytest.mark.parametrize(('hooks', 'dropped'), [
    ([], ()),
    ([dict(type='DropPretrainedHook')], ('conv1.', 'conv2.')),
    ([dict(type='DropPretrainedHook', layers='conv1')], ('conv1.',)),
    ([dict(type='metricconv_mm.DropPretrainedHook', layers=['stem', r'conv\d', 'head'])], ('stem', 'conv1', 'conv2', 'head')),
])  # fmt: skip
def test_kernels_are_kept_or_dropped(train, pretrained, hooks, dropped):
    runner = train(*hooks, load_from=pretrained, optim_wrapper=STILL)
    names = {name for name, _ in runner.model.named_parameters() if 'predictor' not in name}
    assert sevens(runner.model) == {name for name in names if not name.startswith(tuple(dropped))}


@pytest.mark.filterwarnings('ignore:.*checkpoint of a plain convolution')
def test_a_resumed_run_keeps_what_was_trained(train, pretrained):
    first = train(dict(type='DropPretrainedHook'), load_from=pretrained, optim_wrapper=STILL)
    second = train(dict(type='DropPretrainedHook'), epochs=2, resume=True, optim_wrapper=STILL)
    assert torch.equal(first.model.conv1.weight, second.model.conv1.weight)


def test_patterns_that_match_nothing_are_explained(train):
    with pytest.raises(ValueError, match="no layer matches 'layer9': choose from stem, conv1, conv2, head"):
        train(dict(type='DropPretrainedHook', layers=['conv1', 'layer9']))


def test_an_invalid_loss_stops_training_and_names_the_way_back(train, tmp_path):
    with pytest.raises(FloatingPointError) as stopped:
        train(dict(type='InvalidLossHook'), Poison(3), epochs=4)
    message = str(stopped.value)
    assert 'not finite at epoch 2, iteration 4: loss = nan' in message
    assert f'last good checkpoint: {tmp_path / "epoch_1.pth"}' in message and f'--resume {tmp_path / "epoch_1.pth"}' in message
    assert message in next(tmp_path.glob('*/*.log')).read_text()
    assert not (tmp_path / 'epoch_2.pth').exists()
    # and it is one that training can go on from
    assert train(dict(type='InvalidLossHook'), epochs=2, resume=True).epoch == 2


def test_without_a_checkpoint_that_is_said(train):
    with pytest.raises(FloatingPointError, match='there is no good checkpoint'):
        train(dict(type='InvalidLossHook'), Poison(0))


def test_checkpoints_cut_short_or_not_finite_are_passed_over(tmp_path):
    import os

    for time, name in enumerate(('epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', 'best_epoch_3.pth')):
        value = float('nan') if name == 'epoch_2.pth' else 1.0
        torch.save({'state_dict': {'weight': torch.tensor([value])}, 'meta': {'epoch': 1}}, tmp_path / name)
        if name == 'epoch_3.pth':
            (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:100])
        os.utime(tmp_path / name, (time, time))
    good, unusable = last_good_checkpoint(tmp_path)
    assert good == tmp_path / 'epoch_1.pth'
    assert [(path.name, reason.split('(')[0]) for path, reason in unusable] == [
        ('epoch_3.pth', 'cannot be read, perhaps because it is cut short '),
        ('epoch_2.pth', 'has 1 tensors that are not finite, weight among them'),
    ]


def test_the_interval_must_be_positive():
    with pytest.raises(ValueError, match='interval of at least 1'):
        HOOKS.build(dict(type='InvalidLossHook', interval=0))

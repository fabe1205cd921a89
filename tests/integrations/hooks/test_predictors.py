"""The penalty on predictors, their warm-up, and their learning rate."""

import pytest
import torch
from torch import nn

pytest.importorskip('mmpretrain')
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import HOOKS

from metricconv_mm.layers import adaptive_layers, predictor_l1

pytestmark = pytest.mark.stack


class Record(Hook):
    """The predictors' parameters after every iteration."""

    def __init__(self):
        self.states, self.iterations = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.iterations.append(runner.iter)
        parameters = [p for name, p in runner.model.named_parameters() if 'predictor' in name]
        self.states.append(torch.cat([p.detach().flatten() for p in parameters]).clone())

    @property
    def moved(self):
        """Whether each iteration, from the second seen on, moved the predictors."""
        return [not torch.equal(a, b) for a, b in zip(self.states, self.states[1:], strict=False)]


def test_the_penalty_is_a_loss_of_its_own_and_is_trained_on(train, scalars):
    runner = train(dict(type='PredictorL1Hook', weight=50.0))
    records = [record for record in scalars() if 'loss_predictor_l1' in record]
    assert len(records) == 2
    for record in records:
        assert record['loss_predictor_l1'] > 0
        assert record['loss'] == pytest.approx(record['loss_model'] + record['loss_predictor_l1'])
    assert runner.model(torch.randn(1, 3, 6, 6)).shape == (1, 10), 'the hook has left something behind'


def test_a_heavy_penalty_flattens_the_predictors(train):
    initial = predictor_l1(train(epochs=4).model).item()
    penalised = predictor_l1(train(dict(type='metricconv_mm.PredictorL1Hook', weight=1e4), epochs=4).model).item()
    assert penalised < 0.7 * initial


def test_the_penalty_works_under_autocast(train, scalars):
    train(dict(type='PredictorL1Hook', weight=1.0), optim_wrapper=dict(type='CpuAmpOptimWrapper', optimizer=dict(type='SGD', lr=0.01)))
    assert all(record['loss_predictor_l1'] > 0 for record in scalars() if 'loss' in record)


def test_the_penalty_reaches_a_converted_classifier():
    from mmengine.registry import MODELS, init_default_scope
    from mmpretrain.structures import DataSample

    backbone = dict(type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4)
    head = dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=32)
    classifier = dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=dict(type='mmpretrain.GlobalAveragePooling'), head=head)
    init_default_scope('mmpretrain')
    model = MODELS.build(dict(type='ConvertConvs', model=classifier, layers='layer4', support='grid'))
    hook = HOOKS.build(dict(type='PredictorL1Hook', weight=2.0))
    hook.before_train(type('Runner', (), {'model': model}))
    data = {'inputs': [torch.zeros(3, 32, 32)] * 2, 'data_samples': [DataSample().set_gt_label(1)] * 2}
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    expected = 2 * predictor_l1(model).item()
    log = model.train_step(data, wrapper)
    assert log['loss_predictor_l1'].item() == pytest.approx(expected)
    assert log['loss'].item() == pytest.approx(sum(v.item() for k, v in log.items() if 'loss' in k and k != 'loss'))
    hook.after_train(None)
    assert 'loss_predictor_l1' not in model.train_step(data, wrapper)


def test_a_model_whose_training_passes_the_penalty_by_is_refused(train, toy_model):
    class Direct(toy_model):
        def train_step(self, data, optim_wrapper):
            losses = self.forward(**self.data_preprocessor(data), mode='loss')
            optim_wrapper.update_params(losses['loss'])
            return losses

    with pytest.raises(RuntimeError, match='does not call model.*Add metricconv_mm.layers.predictor_l1'):
        train(dict(type='PredictorL1Hook', weight=1.0), model=Direct())


@pytest.mark.parametrize('optimizer', [
    dict(type='Adam', lr=0.01, weight_decay=0.1),
    dict(type='AdamW', lr=0.01, weight_decay=0.1),
    dict(type='SGD', lr=0.01, weight_decay=0.1, momentum=0.9),
], ids=lambda optimizer: optimizer['type'])  # fmt: skip
def test_held_predictors_do_not_move_and_released_ones_do(train, optimizer):
    record, wrapper = Record(), dict(optimizer=optimizer, clip_grad=dict(max_norm=1.0))
    warm = dict(type='PredictorWarmupHook', epochs=1)
    runner = train(warm, dict(type='PredictorL1Hook', weight=5000.0), record, epochs=2, optim_wrapper=wrapper)
    assert record.moved == [False, True, True]
    # their statistics start at the release
    state = runner.optim_wrapper.optimizer.state[runner.model.conv1.predictor.weight]
    assert state.get('step', 2) == 2
    assert not any(p._backward_hooks for p in runner.model.parameters())


def test_held_gradients_do_not_count_in_clipping(train, scalars):
    clipped = dict(optimizer=dict(type='SGD', lr=0.0), clip_grad=dict(max_norm=1e9))
    train(dict(type='PredictorWarmupHook', epochs=1), dict(type='PredictorL1Hook', weight=5000.0), optim_wrapper=clipped)
    held = [record['grad_norm'] for record in scalars() if 'grad_norm' in record]
    assert max(held) < 20  # the penalty's gradient alone is larger than 100


def test_warm_up_by_iterations(train):
    record = Record()
    train(dict(type='PredictorWarmupHook', iterations=1), record, epochs=2, by_epoch=False)
    assert record.moved == [True, True, True]
    record = Record()
    train(dict(type='PredictorWarmupHook', iterations=3), record, epochs=2, by_epoch=False)
    assert record.moved == [False, False, True]


def test_a_resumed_run_is_held_or_released_by_its_epoch(train):
    warm = dict(type='PredictorWarmupHook', epochs=2)
    train(warm, epochs=1)
    record = Record()
    runner = train(warm, record, epochs=3, resume=True)
    assert record.iterations == [2, 3, 4, 5] and record.moved == [False, True, True]
    record = Record()
    train(warm, record, epochs=4, resume=True)
    assert record.iterations == [6, 7] and record.moved == [True]
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_warm_up_goes_with_averaged_parameters(train):
    ema = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1)
    runner = train(dict(type='PredictorWarmupHook', epochs=1), ema, epochs=1)
    averaged = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.module
    for name, layer in adaptive_layers(runner.model).items():
        assert torch.equal(averaged.get_submodule(name).predictor.weight, layer.predictor.weight)


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/rendezvous', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_distributed_training_needs_no_find_unused_parameters(process_group, train, toy_model, scalars):
    from mmengine.model import MMDistributedDataParallel

    record = Record()
    hooks = [dict(type='PredictorL1Hook', weight=5.0), dict(type='PredictorWarmupHook', epochs=1), dict(type='GeometryHook')]
    train(*hooks, record, epochs=2, model=MMDistributedDataParallel(toy_model()))
    assert record.moved == [False, True, True]
    assert all('loss_predictor_l1' in record for record in scalars() if 'loss' in record)


def test_predictors_get_a_learning_rate_of_their_own(toy_model):
    slow = dict(custom_keys={'predictor': dict(lr_mult=0.1, decay_mult=0.0)})
    cfg = dict(optimizer=dict(type='Adam', lr=1.0, weight_decay=0.1), paramwise_cfg=slow)
    model = toy_model()
    wrapper = build_optim_wrapper(model, cfg)
    rates = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.1 if '.predictor.' in name else 1.0), name


@pytest.mark.parametrize(('hook', 'message'), [
    (dict(type='PredictorL1Hook', weight=-1.0), 'weight of at least 0'),
    (dict(type='PredictorL1Hook', weight=1.0, name='penalty'), "contains 'loss'"),
    (dict(type='PredictorWarmupHook'), 'epochs or iterations'),
    (dict(type='PredictorWarmupHook', epochs=1, iterations=1), 'not both'),
])  # fmt: skip
def test_wrong_arguments_are_explained(hook, message):
    import metricconv_mm.integrations.mm  # noqa: F401

    with pytest.raises(ValueError, match=message):
        HOOKS.build(hook)


def test_epochs_where_iterations_count_are_refused(train):
    with pytest.raises(ValueError, match='give iterations'):
        train(dict(type='PredictorWarmupHook', epochs=1), by_epoch=False)


@pytest.mark.parametrize('hook', [dict(type='PredictorL1Hook', weight=1.0), dict(type='PredictorWarmupHook', epochs=1), dict(type='GeometryHook')],
                         ids=lambda hook: hook['type'])  # fmt: skip
def test_a_model_without_adaptive_convolutions_is_refused(train, toy_model, hook):
    model = toy_model()
    model.conv1, model.conv2 = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
    with pytest.raises(ValueError, match='has no adaptive convolution'):
        train(hook, model=model)

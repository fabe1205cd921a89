"""What is written of the geometry while a model trains."""

import re

import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.evaluator import Evaluator
from mmengine.registry import HOOKS

from metricconv_mm.layers import geometry_statistics

pytestmark = pytest.mark.stack
KEYS = {'geometry/conv1/asymmetry', 'geometry/conv1/anisotropy', 'geometry/conv1/radius', 'geometry/conv2/displacement'}


@pytest.fixture
def watched(toy_model):
    """The toy, which says when it was asked to predict."""

    class Watched(toy_model):
        predictions = 0

        def forward(self, inputs, labels=None, mode='tensor'):
            if mode == 'predict':
                assert not self.training and not torch.is_grad_enabled()
                self.predictions += 1
            return super().forward(inputs, labels, mode)

    return Watched()


def geometry(records):
    return [record for record in records if any(key.startswith('geometry/') for key in record)]


def test_statistics_of_every_layer_go_to_the_visualizer_every_epoch(train, scalars, watched, tmp_path):
    runner = train(dict(type='GeometryHook', images=2), model=watched, epochs=2)
    written = geometry(scalars())
    assert [set(record) for record in written] == [KEYS | {'step'}] * 2
    assert [record['step'] for record in written] == [2, 4]
    assert watched.predictions == 2 and watched.training
    images = torch.stack([runner.train_dataloader.dataset[index]['inputs'] for index in (0, 1)])
    expected = geometry_statistics(watched.conv1, watched.stem(images))
    for key, value in expected.items():
        assert written[1][f'geometry/conv1/{key}'] == pytest.approx(value, rel=1e-4)
    log = next(tmp_path.glob('*/*.log')).read_text()
    line = r'geometry, medians over 2 adaptive convolutions: asymmetry \d\.\d+, anisotropy \d\.\d+, radius \d\.\d+, displacement \d\.\d+'
    assert len(re.findall(line, log)) == 2
    assert 'geometry/' not in log, 'statistics of single layers are on the console'


def test_balls_are_drawn_every_so_many_times(train, tmp_path):
    train(dict(type='metricconv_mm.GeometryHook', draw_interval=2, layers='conv1', every=2), epochs=3)
    assert [path.name for path in tmp_path.glob('*/vis_data/vis_image/*')] == ['unit_balls_4.png']


def test_iterations_count_if_asked(train, scalars):
    train(dict(type='GeometryHook', interval=3, by_epoch=False), epochs=2, by_epoch=False)
    assert [record['step'] for record in geometry(scalars())] == [3]


def test_training_is_the_same_with_and_without(train, toy_model):
    torch.manual_seed(1)
    model = toy_model()
    states = [{name: value.clone() for name, value in model.state_dict().items()}]
    for hooks in ([], [dict(type='GeometryHook', draw_interval=1)]):
        model.load_state_dict(states[0])
        states.append({name: value.clone() for name, value in train(*hooks, model=model).model.state_dict().items()})
    for name, value in states[1].items():
        assert torch.equal(value, states[2][name]), name


def test_a_validation_set_is_preferred(train, scalars):
    images = [{'inputs': torch.full((3, 6, 6), 3.0), 'labels': torch.tensor(0)}]
    sampler, collate = dict(type='DefaultSampler', shuffle=False), dict(type='default_collate')
    loader = dict(batch_size=1, num_workers=0, dataset=images, sampler=sampler, collate_fn=collate)
    runner = train(dict(type='GeometryHook'), val_dataloader=loader, val_cfg=dict(), val_evaluator=Evaluator([]))
    (written,) = geometry(scalars())
    expected = geometry_statistics(runner.model.conv1, runner.model.stem(images[0]['inputs'][None]))
    assert written['geometry/conv1/radius'] == pytest.approx(expected['radius'], rel=1e-4)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(interval=0), 'interval of at least 1'),
    (dict(draw_interval=0), 'draw_interval of at least 1'),
    (dict(images=0), 'images of at least 1'),
])  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type='GeometryHook', **options))


def test_layers_that_are_not_there_are_refused(train):
    with pytest.raises(ValueError, match='choose from conv1, conv2'):
        train(dict(type='GeometryHook', layers=['layer4']))

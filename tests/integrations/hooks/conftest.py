"""A model of two adaptive convolutions, trained by a real Runner in a fraction of a second."""

import copy
import itertools

import pytest
import torch
from torch import nn

SIZE, BATCHES = 6, 2
#: mmengine's loggers and visualizers live on by the run's name
RUNS = itertools.count()


@pytest.fixture
def toy_model():
    """A function that builds the model: a classifier of ten classes, or its convolutions alone if ``plain``."""
    from mmengine.model import BaseModel

    from metricconv_mm import MetricConv2d, ShiftedConv2d

    class Toy(BaseModel):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.conv1 = MetricConv2d(4, 4, 3, padding=1)
            self.conv2 = ShiftedConv2d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 10)

        def forward(self, inputs, labels=None, mode='tensor'):
            scores = self.head(self.conv2(self.conv1(self.stem(inputs)).relu()).mean((2, 3)))
            return {'loss': nn.functional.cross_entropy(scores, labels)} if mode == 'loss' else scores

    return Toy


@pytest.fixture
def train(tmp_path, toy_model):
    """A function that trains the toy with hooks and returns the runner."""
    pytest.importorskip('mmpretrain')
    from mmengine.runner import Runner

    import metricconv_mm.integrations.mm  # noqa: F401

    generator = torch.Generator().manual_seed(0)
    data = [
        {'inputs': torch.randn(3, SIZE, SIZE, generator=generator), 'labels': torch.randint(10, (), generator=generator)} for _ in range(4 * BATCHES)
    ]

    def run(*hooks, epochs=1, optim_wrapper=None, model=None, resume=False, by_epoch=True, work_dir=tmp_path, **cfg):
        runner = Runner(
            model=model or toy_model(),
            work_dir=str(work_dir),
            train_dataloader=dict(
                batch_size=4, num_workers=0, dataset=data, sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='default_collate')
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(by_epoch=False, max_iters=epochs * BATCHES),
            optim_wrapper=optim_wrapper or dict(optimizer=dict(type='Adam', lr=0.01, weight_decay=0.1)),
            custom_hooks=list(hooks),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
            randomness=dict(seed=0),
            resume=resume,
            experiment_name=f'toy{next(RUNS)}',
            **copy.deepcopy(cfg),
        )
        runner.train()
        return runner

    return run


@pytest.fixture
def scalars(tmp_path):
    """A function that reads every record of the runs so far."""
    import json

    def read():
        logs = sorted(tmp_path.glob('*/vis_data/scalars.json'))
        return [json.loads(line) for log in logs for line in log.read_text().splitlines()]

    return read

"""A hook that compares the classes of the data with those of the model."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from .common import unwrapped

REMEDY = '--cfg-options model.head.num_classes=NUMBER data_preprocessor.num_classes=NUMBER'


@HOOKS.register_module()
class ClassesHook(Hook):
    """Refuses data of other classes than the classifier's, before an index deep inside the loss does.

    Numbers of classes are compared before the first batch, where the dataset names its classes; labels in every batch. Models whose head has no
    ``num_classes`` (detectors among them) and samples without ``gt_label`` are let pass.

    Raises:
        ValueError: when they differ, with both numbers and the option to change.
    """

    def before_train(self, runner: Any) -> None:
        self._compare(runner, runner.train_dataloader.dataset, 'training')

    def before_val(self, runner: Any) -> None:
        self._compare(runner, runner.val_dataloader.dataset, 'validation')

    def before_test(self, runner: Any) -> None:
        self._compare(runner, runner.test_dataloader.dataset, 'test')

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._check_labels(runner, data_batch)

    def before_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._check_labels(runner, data_batch)

    def before_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._check_labels(runner, data_batch)

    @staticmethod
    def _classes(runner: Any) -> int | None:
        number = getattr(getattr(unwrapped(runner.model), 'head', None), 'num_classes', None)
        return number if isinstance(number, int) else None

    def _compare(self, runner: Any, dataset: Any, which: str) -> None:
        number, classes = self._classes(runner), (getattr(dataset, 'metainfo', None) or {}).get('classes')
        if number is not None and classes is not None and len(classes) != number:
            raise ValueError(
                f"the {which} data have {len(classes)} classes ({', '.join(map(str, classes[:3]))}, ...), the model's head {number}: {REMEDY}, "
                'or the config of this data set'
            )

    def _check_labels(self, runner: Any, data_batch: Any) -> None:
        number = self._classes(runner)
        if number is None or not isinstance(data_batch, dict):
            return
        given = [getattr(sample, 'gt_label', None) for sample in data_batch.get('data_samples') or []]
        labels = [label for tensor in given if isinstance(tensor, torch.Tensor) for label in tensor.reshape(-1).tolist()]
        if any(not 0 <= label < number for label in labels):
            raise ValueError(
                f"the data have labels from {min(labels)} to {max(labels)} in one batch, the model's head has {number} classes, 0 to {number - 1}: "
                f'correct the labels, or the number of classes: {REMEDY}'
            )

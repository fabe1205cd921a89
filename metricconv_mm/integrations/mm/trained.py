"""Trained classifiers and the images they are tested on: what the drawing tools share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from ..upgrade import build
from . import launch


def load_trained(config: str, checkpoint: str) -> tuple[Config, nn.Module]:
    """The config and its model with the weights of ``checkpoint``; exits with a message when they are missing or do not belong together."""
    cfg = launch.read_config(config)
    if not Path(checkpoint).is_file():
        sys.exit(f'no checkpoint {checkpoint!r}')
    model = build(cfg)
    launch.require_own_checkpoint(model, checkpoint)
    load_checkpoint(model, checkpoint, map_location='cpu', logger='silent')
    return cfg, model


def test_set(cfg: Config) -> Any:
    """The test set of a config; exits with a message when it has none."""
    if cfg.get('test_dataloader') is None:
        sys.exit('the config has no test_dataloader, whose images are to be drawn')
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return DATASETS.build(cfg.test_dataloader.dataset)


def image_of(dataset: Any, index: int) -> dict:
    """The sample ``dataset[index]``; exits with a message when there is none."""
    if not 0 <= index < len(dataset):
        sys.exit(f'image {index}: the test set has images 0 to {len(dataset) - 1}')
    return dataset[index]


def prepare(cfg: Config, model: nn.Module, picture: np.ndarray) -> dict:
    """A sample made from a picture (uint8 ``[H, W, 3]``, RGB) by the test pipeline of the config, but for its reading of files."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    image = picture[..., ::-1] if _reads_bgr(model) else picture
    loader = cfg.get('test_dataloader') or {}
    pipeline = loader.get('dataset', {}).get('pipeline') or [{'type': 'PackInputs'}]
    steps = [TRANSFORMS.build(step) for step in pipeline if not step['type'].split('.')[-1].startswith('Load')]
    return Compose(steps)({'img': np.ascontiguousarray(image), 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]})


def picture_of(model: nn.Module, sample: dict) -> np.ndarray:
    """What the model sees of a sample, as uint8 ``[H, W, 3]``, RGB."""
    picture = sample['inputs'].permute(1, 2, 0).numpy()
    if picture.shape[2] == 1:
        picture = np.repeat(picture, 3, axis=2)
    return picture[..., ::-1] if _reads_bgr(model) else picture


@torch.no_grad()
def input_of(model: nn.Module, sample: dict) -> Tensor:
    """The sample as a batch of one, normalised as the model wants it: ``Tensor[1, C, H, W]``."""
    return model.data_preprocessor({'inputs': [sample['inputs']]})['inputs']  # type: ignore[operator]


def _reads_bgr(model: nn.Module) -> bool:
    return bool(getattr(model.data_preprocessor, 'to_rgb', False))

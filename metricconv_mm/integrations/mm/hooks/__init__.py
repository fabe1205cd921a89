"""Training ingredients: ``custom_hooks=[dict(type=...)]`` of any config."""

from .checkpoints import DropPretrainedHook, InvalidLossHook
from .classes import ClassesHook
from .geometry import GeometryHook
from .predictors import PredictorL1Hook, PredictorWarmupHook

__all__ = ['ClassesHook', 'DropPretrainedHook', 'GeometryHook', 'InvalidLossHook', 'PredictorL1Hook', 'PredictorWarmupHook']

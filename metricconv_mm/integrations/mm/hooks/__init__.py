"""Training ingredients: ``custom_hooks=[dict(type=...)]`` of any config."""

from .checkpoints import DropPretrainedHook, InvalidLossHook
from .geometry import GeometryHook
from .predictors import PredictorL1Hook, PredictorWarmupHook

__all__ = ['DropPretrainedHook', 'GeometryHook', 'InvalidLossHook', 'PredictorL1Hook', 'PredictorWarmupHook']

"""Drop-in replacements for nn.Conv2d."""

from .adaptive import AdaptiveConv2d
from .deform import DeformConv2d
from .metric import MetricConv2d
from .names import CONVOLUTIONS, on_registration, register_convolution
from .shifted import ShiftedConv2d

__all__ = ['CONVOLUTIONS', 'AdaptiveConv2d', 'DeformConv2d', 'MetricConv2d', 'ShiftedConv2d', 'on_registration', 'register_convolution']

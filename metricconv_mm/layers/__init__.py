"""Drop-in replacements for nn.Conv2d."""

from .adaptive import AdaptiveConv2d
from .deform import DeformConv2d
from .geodesic import GeodesicConv2d
from .inspection import adaptive_layers, geometry_statistics, recorded_inputs
from .metric import MetricConv2d
from .names import CONVOLUTIONS, on_registration, register_convolution
from .regularisation import predictor_l1
from .shifted import ShiftedConv2d

__all__ = [
    'CONVOLUTIONS',
    'AdaptiveConv2d',
    'DeformConv2d',
    'GeodesicConv2d',
    'MetricConv2d',
    'ShiftedConv2d',
    'adaptive_layers',
    'geometry_statistics',
    'on_registration',
    'predictor_l1',
    'recorded_inputs',
    'register_convolution',
]

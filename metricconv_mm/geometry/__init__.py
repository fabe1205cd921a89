"""The mathematics of the paper on plain tensors: metrics, their encodings, reference supports and unit balls."""

from .encodings import DRIFTS, ENCODINGS, Encoding, Limits, check_encoding, clip_drift, encode_metric, isotropic_raw
from .geodesic import geodesic_ball, geodesic_window
from .heuristics import gradient_metric
from .metrics import anisotropy, ball_radius, drift_norm, dual, is_positive, randers_norm
from .supports import SUPPORTS, kernel_grid, pair, reference_support
from .tangent import scale_to_ball, scale_to_ball_vjp, tangent_ball

__all__ = [
    'DRIFTS',
    'ENCODINGS',
    'SUPPORTS',
    'Encoding',
    'Limits',
    'anisotropy',
    'ball_radius',
    'check_encoding',
    'clip_drift',
    'drift_norm',
    'dual',
    'encode_metric',
    'geodesic_ball',
    'geodesic_window',
    'gradient_metric',
    'is_positive',
    'isotropic_raw',
    'kernel_grid',
    'pair',
    'randers_norm',
    'reference_support',
    'scale_to_ball',
    'scale_to_ball_vjp',
    'tangent_ball',
]

"""The mathematics of the paper on plain tensors: metrics, their encodings, reference supports and unit balls."""

from .encodings import DRIFTS, ENCODINGS, Drift, Encoding, Limits, check_encoding, clip_drift, encode_metric, isotropic_raw, raw_channels
from .families import METRICS, Family, choose_metric
from .geodesic import geodesic_ball, geodesic_ball_at, geodesic_window
from .heuristics import gradient_metric, shaped_metric
from .metrics import anisotropy, ball_radius, drift_norm, dual, finsler_norm, is_positive, randers_norm
from .norms import NORMS, Norm, drift_margin, norm_named
from .supports import SUPPORTS, kernel_grid, pair, reference_support
from .tangent import scale_to_ball, scale_to_ball_vjp, tangent_ball

__all__ = [
    'DRIFTS',
    'ENCODINGS',
    'METRICS',
    'NORMS',
    'SUPPORTS',
    'Drift',
    'Encoding',
    'Family',
    'Limits',
    'Norm',
    'anisotropy',
    'ball_radius',
    'check_encoding',
    'choose_metric',
    'clip_drift',
    'drift_margin',
    'drift_norm',
    'dual',
    'encode_metric',
    'finsler_norm',
    'geodesic_ball',
    'geodesic_ball_at',
    'geodesic_window',
    'gradient_metric',
    'is_positive',
    'isotropic_raw',
    'kernel_grid',
    'norm_named',
    'pair',
    'randers_norm',
    'raw_channels',
    'reference_support',
    'scale_to_ball',
    'scale_to_ball_vjp',
    'shaped_metric',
    'tangent_ball',
]

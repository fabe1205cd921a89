"""The paper's experiments with noise: heuristic filters, and sample locations learnt on one image (on a data set: integrations.mm.denoising)."""

from .filters import FILTERS, GEODESIC, GEODESIC_FIGURE, GEODESIC_METRIC, Settings, apply_filters, gradient_metric_of, reflected
from .measures import generalisation_gap, psnr, psnr_of
from .noise import check_sigma, cuda_randn, frozen_noise, gaussian_noise
from .pixelwise import History, PixelwiseDeform, PixelwiseMetric, check_kernel, learn

__all__ = [
    'FILTERS',
    'GEODESIC',
    'GEODESIC_FIGURE',
    'GEODESIC_METRIC',
    'History',
    'PixelwiseDeform',
    'PixelwiseMetric',
    'Settings',
    'apply_filters',
    'check_kernel',
    'check_sigma',
    'cuda_randn',
    'frozen_noise',
    'gaussian_noise',
    'generalisation_gap',
    'gradient_metric_of',
    'learn',
    'psnr',
    'psnr_of',
    'reflected',
]

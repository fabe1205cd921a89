"""How far a denoised image is from the clean one."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import mse_loss


def psnr(image: Tensor, clean: Tensor) -> float:
    """Peak signal-to-noise ratio, 10 log10(1 / MSE) in dB, of images in [0, 1]; infinite where they are equal."""
    return psnr_of(mse_loss(image, clean).item())


def psnr_of(mse: float) -> float:
    """10 log10(1 / MSE) in dB."""
    return math.inf if mse == 0 else -10 * math.log10(mse)


def generalisation_gap(train: float, test: float) -> float:
    """delta = (test - train) / train, of two mean errors: the paper's delta_MSE, a ratio and not a percentage; infinite for train = 0 < test."""
    if train == 0:
        return 0.0 if test == 0 else math.inf
    return (test - train) / train

"""Convolutions whose sample locations are learnt for one image, pixel by pixel, without a predictor (Tables 1 and 6)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from .. import functional, geometry
from ..layers.metric import POSITIVITY


class PixelwiseMetric(nn.Module):
    """The uniform k x k kernel over unit tangent balls whose metric is free at every pixel.

    The parameters are raw numbers of the 'cholesky' encoding; they start at the Cholesky factor of the image's gradient metric, without drift.

    Args:
        image: ``Tensor[1, 1, H, W]``, where the gradient metric comes from.
        kernel_size: k, odd.
        eps_w: 1 - the largest asymmetry.
        iota, anisotropy: of :func:`~metricconv_mm.geometry.gradient_metric`.
    """

    def __init__(self, image: Tensor, kernel_size: int, eps_w: float, iota: float = 10.0, anisotropy: float = 10.0) -> None:
        super().__init__()
        check_kernel(kernel_size)
        geometry.check_encoding('cholesky', 'sigmoid', geometry.Limits(eps_w))
        self.kernel_size, self.eps_w = kernel_size, eps_w
        m_xx, m_xy, m_yy, w_x, w_y = geometry.gradient_metric(image, iota=iota, anisotropy=anisotropy).unbind(1)
        l11 = m_xx.sqrt()
        l21 = m_xy / l11
        l22 = (m_yy - l21 * l21).clamp_min(0).sqrt()
        self.raw = nn.Parameter(torch.stack([l11, l21, l22, w_x, w_y], 1))

    def metric(self) -> Tensor:
        """``Tensor[1, 5, H, W]``."""
        ceiling = None if self.eps_w == 1 else 1 - POSITIVITY * self.eps_w
        return functional.encode_metric(self.raw, encoding='cholesky', drift='sigmoid', eps_w=self.eps_w, ceiling=ceiling)

    def forward(self, image: Tensor) -> Tensor:
        k = self.kernel_size
        weight = image.new_full((1, 1, k, k), 1 / k**2)
        return functional.metric_conv2d(image, self.metric(), weight, support='polar', padding=k // 2)


class PixelwiseDeform(nn.Module):
    """The uniform k x k kernel with free offsets of every tap at every pixel, which start at 0.

    A kernel row has a parameter of its own, ``Tensor[1, 2 k, H, W]`` of (dy, dx) from the pixel's own row: what backward needs besides the parameters
    is then a k-th of them.

    Args:
        image: ``Tensor[1, 1, H, W]``, whose size, dtype and device count.
        kernel_size: k, odd.
    """

    def __init__(self, image: Tensor, kernel_size: int) -> None:
        super().__init__()
        check_kernel(kernel_size)
        self.kernel_size = kernel_size
        self.rows = nn.ParameterList()
        for row in range(kernel_size):
            offset = image.new_zeros(1, kernel_size, 2, *image.shape[2:])
            offset[:, :, 0] = row - kernel_size // 2
            self.rows.append(nn.Parameter(offset.flatten(1, 2)))

    def forward(self, image: Tensor) -> Tensor:
        k = self.kernel_size
        weight = image.new_full((1, 1, 1, k), 1 / k**2)
        out = torch.zeros_like(image)
        for offset in self.rows:
            out = out + functional.deform_conv2d(image, offset, weight, padding=(0, k // 2))
        return out


def check_kernel(kernel_size: int) -> None:
    """Raise ValueError unless ``kernel_size`` is odd and positive."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'expected an odd kernel size of at least 1, got {kernel_size=}')


class History(NamedTuple):
    """What :func:`learn` measured, with the parameters before each update."""

    train: list[float]
    """MSE of the training image at every iteration"""
    test: dict[int, float]
    """MSE of the test image, by iteration; the last of ``train`` is always there"""
    denoised: tuple[Tensor, Tensor]
    """the training and the test image as they come out at the last iteration"""
    diverged: bool
    seconds: float


def learn(
    conv: nn.Module,
    clean: Tensor,
    noisy: Tensor,
    unseen: Tensor,
    lr: float,
    iterations: int = 100,
    *,
    test_every: int = 1,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> History:
    """Plain gradient descent on the MSE of one noisy image; parameters move as soon as their gradient is there, so that gradients need no memory.

    Stops where the error is no longer finite, with the values up to the last one measured on both images.

    Args:
        conv: a module from ``Tensor[1, 1, H, W]`` to the same.
        clean, noisy, unseen: ``Tensor[1, 1, H, W]``: the target, what is trained on, and the same scene with other noise.
        lr: of the mean over the pixels: what fits one image size fits another in proportion to its pixels.
        progress: wraps the iterations, such as tqdm.

    Raises:
        ValueError: for images of different sizes, no iterations, or a learning rate that is not positive.
        FloatingPointError: when the very first error is not finite.
    """
    if not clean.shape == noisy.shape == unseen.shape:
        raise ValueError(f'expected images of one size, got {tuple(clean.shape)}, {tuple(noisy.shape)} and {tuple(unseen.shape)}')
    if iterations < 1 or test_every < 1 or not 0 < lr < math.inf:
        raise ValueError(f'expected iterations and test_every of at least 1 and lr > 0, got {iterations=}, {test_every=}, {lr=}')

    def step(parameter: Tensor) -> None:
        assert parameter.grad is not None
        with torch.no_grad():
            parameter.sub_(parameter.grad, alpha=lr)
        parameter.grad = None

    handles = [parameter.register_post_accumulate_grad_hook(step) for parameter in conv.parameters()]
    train: list[float] = []
    test: dict[int, float] = {}
    denoised, diverged, start = (noisy, unseen), False, time.perf_counter()
    try:
        for iteration in progress(range(iterations)):
            out = conv(noisy)
            loss = mse_loss(out, clean)
            if not loss.isfinite():
                diverged = True
                break
            if iteration % test_every == 0 or iteration == iterations - 1:
                with torch.no_grad():
                    other = conv(unseen)
                test[iteration] = mse_loss(other, clean).item()
                denoised = (out.detach(), other)
            train.append(loss.item())
            loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    if not train:
        raise FloatingPointError('the error is not finite before anything has been learnt: the images hold NaN or infinity')
    if diverged:
        del train[max(test) + 1 :]
    return History(train, test, denoised, diverged, time.perf_counter() - start)

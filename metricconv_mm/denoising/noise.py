"""Gaussian noise that can be made again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = 0xFFFFFFFF
#: threads of the smallest launch that gives every number a thread of its own on GPUs of recent years
CUDA_THREADS = 2**17
#: a grey level of 1 is less than the rounding error of twenty times this in float32
MOST_SIGMA = 1e6


def _philox(counters: list[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Four random 32-bit words for each counter of four words, all in int64."""
    for _ in range(ROUNDS):
        # int64 wraps around, and the arithmetic shift's sign is masked away
        products = [counters[0] * MULTIPLIERS[0], counters[2] * MULTIPLIERS[1]]
        high, low = [(p >> 32) & LOW for p in products], [p & LOW for p in products]
        counters = [high[1] ^ counters[1] ^ key[0], low[1], high[0] ^ counters[3] ^ key[1], low[0]]
        key = ((key[0] + WEYL[0]) & LOW, (key[1] + WEYL[1]) & LOW)
    return counters


def cuda_randn(shape: Sequence[int], seed: int, call: int = 0) -> Tensor:
    """What ``torch.randn(shape, device='cuda')`` gives after ``torch.manual_seed(seed)``, computed on the CPU.

    Philox4x32-10 with the seed as key and (call, 0, element, 0) as counter, then Box-Muller: sqrt(-2 ln u) sin(2 pi v).

    Args:
        call: how many earlier calls of randn there were since the seed was set.

    Returns:
        float32 ``Tensor[shape]``; the last bit may differ from a GPU's.

    Raises:
        ValueError: for more than 131,072 numbers, where a GPU's threads draw several each and the order depends on the GPU.
    """
    count = math.prod(shape)
    if count > CUDA_THREADS:
        raise ValueError(f'the noise of a GPU is known for at most {CUDA_THREADS} numbers, got shape {tuple(shape)}: use the noise of the CPU')
    elements, zeros = torch.arange(count), torch.zeros(count, dtype=torch.int64)
    words = _philox([zeros + call, zeros, elements, zeros], (seed & LOW, (seed >> 32) & LOW))
    u, v = (word.double() * 2.0**-32 + 2.0**-33 for word in words[:2])
    return ((-2 * u.log()).sqrt() * (2 * math.pi * v).sin()).float().reshape(tuple(shape))


def gaussian_noise(shape: Sequence[int], seed: int, *, calls: int = 1, generator: str = 'cpu') -> list[Tensor]:
    """Standard normal noise of ``calls`` successive calls of torch.randn after a seed: of the CPU's generator, or of the 'cuda' one.

    Raises:
        ValueError: for another generator, a seed that is not of 64 bits, and as :func:`cuda_randn`.
    """
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f'expected a seed of 64 bits, at least -2^63 and below 2^64, got {seed=}')
    if generator == 'cuda':
        return [cuda_randn(shape, seed, call) for call in range(calls)]
    if generator != 'cpu':
        raise ValueError(f"unknown {generator=}: choose 'cpu' or 'cuda'")
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(tuple(shape), generator=source) for _ in range(calls)]


def check_sigma(sigma: float) -> None:
    """Raise ValueError unless ``sigma`` is a standard deviation, and small enough for float32 to hold an image below the noise."""
    if not 0 <= sigma <= MOST_SIGMA:
        raise ValueError(f'expected sigma, the standard deviation of the noise for grey levels in [0, 1], from 0 to {MOST_SIGMA:g}, got {sigma=}')


def frozen_noise(shape: Sequence[int], name: str, sigma: float, seed: int = 0) -> Tensor:
    """sigma times standard normal noise that depends on ``seed``, ``sigma`` and a name alone: an image keeps it in every epoch, run and subset."""
    check_sigma(sigma)
    digest = hashlib.sha256(f'{seed}/{sigma!r}/{name}'.encode()).digest()
    source = torch.Generator().manual_seed(int.from_bytes(digest[:8], 'little', signed=True))
    return sigma * torch.randn(tuple(shape), generator=source)

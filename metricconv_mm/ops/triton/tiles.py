"""How much of the work one program takes: a table, as measuring would differ from run to run and break the capture of CUDA graphs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch

#: programs that keep one multiprocessor busy
PROGRAMS = 4


@dataclass(frozen=True)
class Tile:
    """Sizes of a program, all powers of two; taps x channels and outputs are at least 16, the least that tensor cores multiply."""

    pixels: int
    taps: int
    channels: int
    outputs: int
    warps: int = 4
    stages: int = 2

    @property
    def blocks(self) -> dict[str, int]:
        return {'BLOCK_P': self.pixels, 'BLOCK_K': self.taps, 'BLOCK_C': self.channels, 'BLOCK_O': self.outputs}

    @property
    def options(self) -> dict[str, int]:
        return {'num_warps': self.warps, 'num_stages': self.stages}


def power_of_two(number: int, least: int = 1, most: int = 1 << 30) -> int:
    """The next power of two, between two others."""
    return min(most, max(least, 1 << (number - 1).bit_length()))


@cache
def multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 1


def forward(dtype: torch.dtype, cell: int, outputs: int, pixels: int, device: torch.device) -> Tile:
    wide = dtype == torch.float32
    o = power_of_two(outputs, 16, 128 if wide else 256)
    # two stages of everything fit into the 99 KiB of shared memory of the smaller GPUs
    channels = power_of_two(cell, most=32 if wide or o > 128 else 64)
    p = _pixels(64, 16, pixels, device)
    return Tile(p, max(1, 16 // channels), channels, o, 8 if p * o >= 64 * 256 or (wide and p * o >= 64 * 128) else 4)


def samples(dtype: torch.dtype, cell: int, outputs: int, pixels: int, device: torch.device) -> Tile:
    # more pixels or channels a thread, and the pointers to the neighbours do not fit into its registers
    channels = power_of_two(cell, most=32)
    outputs = power_of_two(outputs, 16, 64 if dtype == torch.float32 else 128)
    return Tile(_pixels(64, 16, pixels, device), max(1, 16 // channels), channels, outputs, 8, 1)


def weight(dtype: torch.dtype, cell: int, outputs: int, pixels: int, device: torch.device) -> Tile:
    wide = dtype == torch.float32
    channels = power_of_two(cell, most=32 if wide else 64)
    return Tile(32 if wide else 64, max(1, 16 // channels), channels, power_of_two(outputs, 16, 128))


def depthwise(dtype: torch.dtype, cell: int, outputs: int, pixels: int, device: torch.device) -> Tile:
    channels = power_of_two(cell, most=64)
    return Tile(_pixels(min(256, 2048 // channels), 32, pixels, device), 1, channels, 1)


def depthwise_samples(dtype: torch.dtype, cell: int, outputs: int, pixels: int, device: torch.device) -> Tile:
    return replace(depthwise(dtype, cell, outputs, pixels, device), warps=8, stages=1)


def _pixels(most: int, least: int, pixels: int, device: torch.device) -> int:
    """Fewer pixels a program where there are too few to go round."""
    while most > least and pixels < most * multiprocessors(device):
        most //= 2
    return most


def splits(programs: int, most: int, device: torch.device) -> int:
    """Into how many parts to divide a sum, so that all multiprocessors have work."""
    return max(1, min(most, PROGRAMS * multiprocessors(device) // max(1, programs)))


TUNED = ('BLOCK_P', 'num_warps', 'num_stages')


def candidates(tile: Tile) -> list[tuple[int, int, int]]:
    """The pixels, warps and stages that METRICCONV_AUTOTUNE=1 tries, the table's own choice first."""
    options = dict.fromkeys([(tile.warps, tile.stages), (8, 2), (4, 3), (4, 1)])
    return [(p, *option) for p in (tile.pixels, tile.pixels // 2, tile.pixels * 2) if p >= 16 for option in options]

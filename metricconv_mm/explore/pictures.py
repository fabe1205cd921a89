"""The pictures of the page: bundled ones, files, and what a browser uploads."""

from __future__ import annotations

import base64
import binascii
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib import cbook
from torch import Tensor
from torch.nn.functional import interpolate

from ..denoising import check_sigma, gaussian_noise
from ..visualization import read_image

#: the longest side that pictures are shrunk to unless another is asked for: a metric convolution of it takes a moment
SIDE = 256
#: what else can be asked for
SIDES = (32, 64, 128, 192, SIDE, 384)
SEED = 42


@dataclass(frozen=True)
class Picture:
    """An image and where it is from."""

    name: str
    image: Tensor
    """``Tensor[C, H, W]`` in [0, 1], C = 1 or 3"""
    full: tuple[int, int] | None = None
    """rows and columns before it was shrunk, if it was"""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.image.shape[1], self.image.shape[2]


def shapes(side: int = SIDE) -> Picture:
    """Drawn in code: a disk, a wedge, stripes that narrow, and a ramp: edges of every direction, corners and texture."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing='ij')
    image = torch.stack([0.25 + 0.3 * x, 0.3 + 0.25 * y, 0.55 - 0.2 * x])
    stripes = torch.sin(2 * math.pi * 26 * (x - 0.5) * (x + 0.1)) > 0
    for where, colour in (
        ((x > 0.52) & (x < 0.96) & (y > 0.06) & (y < 0.42) & stripes, (0.93, 0.92, 0.86)),
        ((x - 0.28) ** 2 + (y - 0.28) ** 2 < 0.2**2, (0.95, 0.75, 0.2)),
        ((x - 0.28) ** 2 + (y - 0.28) ** 2 < 0.09**2, (0.2, 0.25, 0.4)),
        ((y > 0.55) & (y < 0.93) & ((x - 0.28).abs() < 0.6 * (y - 0.55)), (0.8, 0.3, 0.25)),
        ((x > 0.56) & (y > 0.55) & ((x + 0.6 * y - 1.2).abs() < 0.06), (0.35, 0.7, 0.5)),
        (((x - 0.84) ** 2 / 0.01 + (y - 0.74) ** 2 / 0.03) < 1, (0.9, 0.9, 0.95)),
    ):
        image = torch.where(where, torch.tensor(colour)[:, None, None], image)
    return Picture('shapes', image)


def photograph() -> Picture:
    """Grace Hopper, the photograph that comes with matplotlib."""
    return Picture('photograph', read_image(cbook.get_sample_data('grace_hopper.jpg', asfileobj=False)))


BUNDLED = {'shapes': shapes, 'photograph': photograph}


def from_file(path: str | Path) -> Picture:
    """The picture in a file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no picture.
    """
    return kept(Picture(Path(path).name, read_image(path)))


def from_upload(contents: str, name: str) -> Picture:
    """The picture that a browser sends as a data URL.

    Raises:
        ValueError: when it is none, with the name of the user's file.
    """
    header, _, data = contents.partition(',')
    try:
        if not header.endswith(';base64'):
            raise ValueError(f'expected a data URL in base64, got {header[:40]!r}')
        decoded = base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f'{name} did not arrive whole ({error}): open it again') from error
    if not decoded:
        raise ValueError(f'{name} is an empty file: expected a picture, PNG, JPEG, TIFF, ...')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'picture'
        path.write_bytes(decoded)
        try:
            return kept(Picture(name, read_image(path)))
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), name)) from error


def kept(picture: Picture) -> Picture:
    """As many pixels of a picture as can be asked for: a photograph of 15 million takes 180 MB."""
    return shrink(picture, max(SIDES))[0]


def shrink(picture: Picture, side: int) -> tuple[Picture, str]:
    """The picture with a longest side of at most ``side`` pixels, and a note that says so if it had more."""
    longest = max(picture.size)
    if longest <= side:
        return picture, _note(picture)
    size = tuple(max(1, round(length * side / longest)) for length in picture.size)
    image = interpolate(picture.image[None], size, mode='bilinear', align_corners=False, antialias=True)[0]
    small = Picture(picture.name, image.clamp(0, 1), picture.full or picture.size)
    return small, _note(small)


def _note(picture: Picture) -> str:
    if not picture.full:
        return ''
    (rows, columns), (new_rows, new_columns) = picture.full, picture.size
    return f'shrunk from {columns} x {rows} to {new_columns} x {new_rows} pixels'


def with_noise(picture: Picture, sigma: float) -> Tensor:
    """The image plus sigma times standard normal noise, always the same, not clamped."""
    check_sigma(sigma)
    return picture.image + sigma * gaussian_noise(picture.image.shape, SEED)[0] if sigma else picture.image

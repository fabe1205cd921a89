"""Pictures from files and into files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def pixels(figure: Figure) -> np.ndarray:
    """The figure as uint8 ``[H, W, 3]``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure, and the folder it goes into.

    Raises:
        ValueError: for a file ending that stands for no format of pictures, listing those that do.
    """
    Path(path).resolve().parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def read_picture(path: str | Path, size: Sequence[int] | None = None) -> np.ndarray:
    """Any picture file as uint8 ``[H, W, 3]``, RGB: 16 bits are scaled to 8, transparent parts are white, and the camera's rotation is applied.

    Args:
        size: height and width to resize it to, or one number for both.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a file that is no picture, is cut short, is too large, or has other than 8 or 16 bits a channel.
    """
    from PIL import Image, ImageOps

    if not Path(path).is_file():
        raise FileNotFoundError(f'no picture {str(path)!r}')
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f'{path} is no picture that can be read: {error}') from error
    if image.mode.startswith('I;16'):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ('I', 'F'):
        raise ValueError(f'{path}: expected 8 or 16 bits a channel, got 32 (mode {image.mode}): save it as an 8-bit PNG')
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA'))
    image = image.convert('RGB')
    if size:
        image = image.resize((size[-1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(image)

"""Reading pictures from files, in one way for every tool, and putting several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SIXTEEN_BITS = ('I;16', 'I;16L', 'I;16B', 'I;16N', 'I')


def read_image(path: str | Path, *, grey: bool = False) -> Tensor:
    """The picture in a file, upright, as ``Tensor[C, H, W]`` in [0, 1]: C = 1 for a grey picture, 3 for colour.

    8 and 16 bits a channel are scaled by 255 and 65535 (Pillow reads colour in 8 bits alone). What is transparent shows white. Of an animation, the
    first frame.

    Args:
        grey: colour becomes luma, 0.299 R + 0.587 G + 0.114 B, not rounded.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no picture, is cut short, is empty, or holds floating point outside [0, 1].
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no picture {str(path)!r}: {"it is a folder" if path.is_dir() else "give the path of an image file"}')
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            picture.load()
    except UnidentifiedImageError as error:
        raise ValueError(f'{path} is no picture that Pillow can read: expected PNG, JPEG, TIFF, ...') from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f'{path} cannot be read ({error}): copy it again, or save it anew') from error
    image = _as_float(picture, path)
    if image.numel() == 0:
        raise ValueError(f'{path} is empty: expected at least one pixel, got {picture.height} x {picture.width}')
    return _luma(image) if grey and image.shape[0] == 3 else image


def read_picture(path: str | Path, size: Sequence[int] | None = None) -> np.ndarray:
    """:func:`read_image` as uint8 ``[H, W, 3]``, RGB, the pictures of data sets.

    Args:
        size: height and width to resize it to, or one number for both.
    """
    image = read_image(path).expand(3, -1, -1)
    if size:
        image = torch.nn.functional.interpolate(image[None], (size[0], size[-1]), mode='bicubic', antialias=True)[0]
    return (255 * image).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def _as_float(picture: Image.Image, path: Path) -> Tensor:
    if picture.mode in SIXTEEN_BITS:
        levels = np.asarray(picture).astype(np.float64)
        if levels.size and not 0 <= levels.min() <= levels.max() <= 65535:
            raise ValueError(f'{path}: expected grey levels of 16 bits, 0 to 65535, got {levels.min():g} to {levels.max():g}: rescale them')
        return torch.from_numpy((levels / 65535).astype(np.float32))[None]
    if picture.mode == 'F':
        levels = np.asarray(picture)
        if not np.isfinite(levels).all():
            raise ValueError(
                f'{path} has {(~np.isfinite(levels)).sum()} pixels that are NaN or infinite: expected grey levels in [0, 1], replace them'
            )
        if levels.size and not (levels.min() >= 0 and levels.max() <= 1):
            raise ValueError(f'{path}: expected floating point grey levels in [0, 1], got {levels.min():g} to {levels.max():g}: rescale them')
        return torch.from_numpy(levels.astype(np.float32))[None]
    if picture.has_transparency_data:
        grey = picture.mode in ('LA', 'La', 'L', '1')
        opaque = Image.new('RGBA', picture.size, 'white')
        opaque.alpha_composite(picture.convert('RGBA'))
        picture = opaque.convert('L' if grey else 'RGB')
    elif picture.mode not in ('L', 'RGB'):
        picture = picture.convert('L' if picture.mode == '1' else 'RGB')
    array = np.array(picture)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).float().div_(255)


def _luma(image: Tensor) -> Tensor:
    return (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)


def displayable(image: Tensor) -> np.ndarray:
    """``Tensor[C, H, W]``, C = 1 or 3, clamped to [0, 1], as matplotlib wants it."""
    image = image.detach().float().nan_to_num().clamp(0, 1).cpu()
    return image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).numpy()


def draw_panels(panels: Sequence[tuple[str, Tensor]], *, columns: int = 4, title: str | None = None) -> Figure:
    """Pictures of one size side by side, each under its label.

    Args:
        panels: (label, ``Tensor[C, H, W]`` in [0, 1]) each.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    height, width = panels[0][1].shape[-2:]
    tall = min(max(height / width, 0.25), 4.0)
    figure = Figure(figsize=(2.9 * columns, (2.9 * tall + 0.35) * rows + 0.3 * bool(title)), layout='constrained')
    if title:
        figure.suptitle(title)
    for index, (label, image) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(displayable(image), cmap='gray', vmin=0, vmax=1)
        axes.set_title(label, fontsize=9)
        axes.set_axis_off()
    return figure

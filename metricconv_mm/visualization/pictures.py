"""Figures as pixels and as files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def pixels(figure: Figure) -> np.ndarray:
    """The figure as uint8 ``[H, W, 3]``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def check_figure(path: str | Path) -> None:
    """Make the folder that a figure is to go into, so that what is wrong with it shows before the work.

    Raises:
        ValueError: for a place that cannot be written to, and a file ending that stands for no format of pictures, listing those that do.
    """
    path = Path(path)
    endings = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix[1:].lower() not in endings:
        raise ValueError(f'{str(path)!r} names no picture: expected a file that ends in one of {", ".join(sorted(endings))}, such as out.png')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise PermissionError(0, 'it is a folder' if path.is_dir() else 'permission denied')
    except OSError as error:
        raise ValueError(f'no picture can be written to {str(path)!r} ({error.strerror}): choose another place') from error


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure, and the folder it goes into.

    Raises:
        ValueError: as :func:`check_figure`.
    """
    check_figure(path)
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise ValueError(f'no picture can be written to {str(path)!r} ({error.strerror}): choose another place') from error

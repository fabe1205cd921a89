"""Figures as pixels and as files."""

from __future__ import annotations

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

"""Pictures of what the layers see and of how training went; needs matplotlib."""

from .balls import draw_balls, layer_balls
from .curves import draw_curves, read_scalars

__all__ = ['draw_balls', 'draw_curves', 'layer_balls', 'read_scalars']

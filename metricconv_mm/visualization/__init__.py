"""Pictures of what the layers see and of how training went; needs matplotlib."""

from .balls import balls_over, draw_balls, layer_balls, pixels
from .curves import draw_curves, read_scalars
from .norms import draw_norms

__all__ = ['balls_over', 'draw_balls', 'draw_curves', 'draw_norms', 'layer_balls', 'pixels', 'read_scalars']

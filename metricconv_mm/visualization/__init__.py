"""Pictures of what the layers see and of how training went; needs matplotlib."""

from .balls import balls_over, draw_balls, layer_balls, pixels
from .curves import draw_curves, read_scalars
from .scores import Point, draw_scores

__all__ = ['Point', 'balls_over', 'draw_balls', 'draw_curves', 'draw_scores', 'layer_balls', 'pixels', 'read_scalars']

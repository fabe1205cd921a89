"""Pictures of what the layers see and of how training went; needs matplotlib."""

from .balls import balls_over, draw_balls, draw_metric_balls, layer_balls, outline, pixels
from .curves import draw_curves, draw_learning, draw_range_test, read_scalars
from .images import displayable, draw_panels, read_image

__all__ = [
    'balls_over',
    'displayable',
    'draw_balls',
    'draw_curves',
    'draw_learning',
    'draw_metric_balls',
    'draw_panels',
    'draw_range_test',
    'layer_balls',
    'outline',
    'pixels',
    'read_image',
    'read_scalars',
]

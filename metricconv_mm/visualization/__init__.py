"""Pictures of what the layers see and of how training went; needs matplotlib."""

from .balls import balls_over, draw_balls, layer_balls
from .cams import CamRow, ClassActivation, class_activation, draw_cams, target_layer
from .curves import draw_curves, group_seeds, read_scalars, short_names
from .pictures import pixels, read_picture, save_figure

__all__ = [
    'CamRow', 'ClassActivation', 'balls_over', 'class_activation', 'draw_balls', 'draw_cams', 'draw_curves', 'group_seeds', 'layer_balls', 'pixels',
    'read_picture', 'read_scalars', 'save_figure', 'short_names', 'target_layer',
]  # fmt: skip

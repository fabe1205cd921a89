"""Pictures of what the layers see and of how training went; needs matplotlib."""

from .balls import balls_over, draw_balls, layer_balls, outline
from .cams import CamRow, ClassActivation, class_activation, draw_cams, target_layer
from .curves import draw_curves, group_seeds, read_scalars, short_names
from .images import displayable, draw_panels, read_image, read_picture
from .learning import draw_learning, draw_range_test
from .norms import draw_norms
from .pictures import check_figure, pixels, save_figure
from .pixel_balls import check_pixels, draw_pixel_balls, geodesic_outlines, tangent_outlines
from .scores import Point, draw_scores

__all__ = [
    'CamRow',
    'ClassActivation',
    'Point',
    'balls_over',
    'check_figure',
    'check_pixels',
    'class_activation',
    'displayable',
    'draw_balls',
    'draw_cams',
    'draw_curves',
    'draw_learning',
    'draw_norms',
    'draw_panels',
    'draw_pixel_balls',
    'draw_range_test',
    'draw_scores',
    'geodesic_outlines',
    'group_seeds',
    'layer_balls',
    'outline',
    'pixels',
    'read_image',
    'read_picture',
    'read_scalars',
    'save_figure',
    'short_names',
    'tangent_outlines',
    'target_layer',
]

import numpy as np
import pytest
import torch

pytest.importorskip('matplotlib')

from metricconv_mm.geometry import geodesic_ball, gradient_metric, randers_norm
from metricconv_mm.visualization import draw_pixel_balls, geodesic_outlines, tangent_outlines

TIMES = {'heat_step': 0.1, 'heat_time': 0.3, 'flow_step': 0.1, 'flow_time': 1.0}
PIXELS = [(3, 4), (11, 14)]


@pytest.fixture
def image():
    return torch.rand(1, 1, 12, 15, dtype=torch.float64)


@pytest.fixture
def metric(image):
    return gradient_metric(image, anisotropy=10, tau=0.8)


def test_tangent_outlines_are_where_the_norm_is_one(metric):
    for (row, column), boundary in zip(PIXELS, tangent_outlines(metric, PIXELS), strict=True):
        vectors = torch.from_numpy(boundary)[..., None, None]
        norms = randers_norm(metric[0, :, row : row + 1, column : column + 1], vectors)
        assert torch.allclose(norms, torch.ones_like(norms), atol=1e-4) and np.array_equal(boundary[0], boundary[-1])


def test_geodesic_outlines_are_those_of_the_whole_field(metric):
    found = geodesic_outlines(metric, PIXELS, directions=24, **TIMES, stencil_scale=1.5)
    whole = geodesic_ball(metric, (1, 24), **TIMES, stencil_scale=1.5)
    for (row, column), boundary in zip(PIXELS, found, strict=True):
        expected = whole[0, :, :, row, column].numpy()
        # 'auto' drops faint heat; its bound is 1 % of the way
        assert np.abs(boundary[:-1] - expected).max() < 0.01 * TIMES['flow_time'] and np.array_equal(boundary[0], boundary[-1])


def test_balls_are_drawn_around_their_pixels(image, metric):
    round_metric = gradient_metric(image, anisotropy=0)
    fields = {'a': round_metric, 'b': metric}
    balls = {
        'tangent': {label: tangent_outlines(field, PIXELS) for label, field in fields.items()},
        'geodesic': {'b': geodesic_outlines(metric, PIXELS, **TIMES)},
    }
    figure = draw_pixel_balls(image[0, 0].numpy(), PIXELS, balls, title='balls')
    panels = [axes for axes in figure.findobj(lambda artist: hasattr(artist, 'get_xlim')) if axes.get_title()]
    assert len(panels) == 2 * 2 * 2
    lines = [line for axes in panels for line in axes.lines if 'tangent, b' in line.get_label() or 'geodesic' in line.get_label()]
    drawn = {kind: [line.get_xydata() for line in lines if line.get_label().startswith(kind)] for kind in balls}
    for kind, outlines in balls.items():
        for (row, column), boundary, line in zip(PIXELS, outlines['b'], drawn[kind], strict=True):
            assert np.allclose(line, boundary + np.array([column, row]))
    # the pixel of the picture that is drawn under a pixel is that pixel
    for axes, (row, column) in ((panels[0], PIXELS[0]), (panels[-1], PIXELS[1])):
        (picture,) = axes.images
        left, _, _, top = picture.get_extent()
        assert picture.get_array()[row - round(top + 0.5), column - round(left + 0.5)] == image[0, 0, row, column]


@pytest.mark.parametrize('pixels', [[], [(12, 0)], [(0, 15)], [(-1, 0)]])
def test_pixels_outside_the_image_are_refused(metric, pixels):
    for refused in (
        lambda: tangent_outlines(metric, pixels),
        lambda: geodesic_outlines(metric, pixels, **TIMES),
        lambda: draw_pixel_balls(np.zeros((12, 15)), pixels, {}),
    ):
        with pytest.raises(ValueError, match='rows 0 to 11 and columns 0 to 14'):
            refused()

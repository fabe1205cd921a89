import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from metricconv_mm.geometry import finsler_norm, geodesic_ball, tangent_ball
from metricconv_mm.layers import MetricConv2d

pytest.importorskip('matplotlib')
from metricconv_mm.explore.controls import Controls
from metricconv_mm.explore.fields import handmade_field
from metricconv_mm.explore.filters import MOST, filter_geodesic, filter_tangent, region_around
from metricconv_mm.explore.model import layer_field
from metricconv_mm.explore.pictures import shapes
from metricconv_mm.explore.views import STEPS, balls_at, heat_time_of
from metricconv_mm.visualization import balls_over


def mean_at(image, points):
    """The mean of ``Tensor[C, H, W]``, 0 outside, read bilinearly at points ``[n, 2]``."""
    size = torch.tensor([image.shape[2], image.shape[1]])
    grid = (2 * torch.as_tensor(points).float() + 1) / size - 1
    return grid_sample(image[None], grid[None, None], align_corners=False)[0, :, 0].mean(1)


@pytest.fixture
def image():
    return shapes(40).image


@pytest.mark.parametrize('source', ['shape', 'gradient'])
@pytest.mark.parametrize('support, kernel_size', [('onion', 5), ('polar', 3), ('grid', 3)])
def test_a_filtered_pixel_is_the_mean_of_the_samples_that_are_drawn(image, source, support, kernel_size):
    controls = Controls(source, support=support, kernel_size=kernel_size, geodesic=False)
    field = handmade_field(image, controls)
    filtered = filter_tangent(field, image, image)
    assert filtered.image.shape == image.shape
    for x, y in ((20, 20), (0, 3), (39, 39)):
        samples = balls_at(field, x, y, controls).samples
        assert samples.shape == (kernel_size**2, 2)
        assert torch.allclose(filtered.image[:, y, x], mean_at(image, samples), atol=1e-4)


@pytest.mark.parametrize('support, region', [('onion', None), ('polar', (slice(18, 23), slice(0, 24)))])
def test_a_pixel_filtered_over_geodesic_balls_is_the_mean_of_their_samples(image, support, region):
    controls = Controls(support=support, kernel_size=3, over='geodesic', spread=1.0)
    field = handmade_field(image, controls)
    filtered = filter_geodesic(field, image, image, controls, region)
    left, top = filtered.corner
    assert filtered.image.shape[1:] == ((5, 24) if region else (40, 40)) and filtered.whole == (region is None)
    for x, y in ((20, 20), (0, 18)):
        samples = balls_at(field, x, y, controls).geodesic_samples
        assert torch.allclose(filtered.image[:, y - top, x - left], mean_at(image, samples), atol=1e-3)


def test_the_geodesic_balls_of_a_strided_layer_are_averaged_where_they_are_drawn():
    layer = MetricConv2d(2, 3, 3, stride=2, padding=1)
    torch.nn.init.normal_(layer.predictor.weight, std=0.3)
    picture, controls = torch.rand(3, 24, 20), Controls('layer', over='geodesic', spread=1.0)
    field = layer_field(layer, torch.randn(1, 2, 24, 20), (24, 20))
    filtered = filter_geodesic(field, picture, picture, controls)
    assert filtered.image.shape == (3, 12, 10)
    samples = balls_at(field, *field.centre(5, 3), controls).geodesic_samples
    assert torch.allclose(filtered.image[:, 5, 3], mean_at(picture, samples), atol=1e-3)


def test_samples_that_do_not_flow_stay(image):
    controls = Controls(flow_time=0.0, stencil=1.0, over='geodesic')
    field = handmade_field(image, controls)
    balls = balls_at(field, 9, 30, controls)
    assert np.allclose(balls.geodesic_samples, balls.samples, atol=1e-4)
    averages = filter_geodesic(field, image, image, controls), filter_tangent(field, image, image)
    assert torch.allclose(averages[0].image, averages[1].image, atol=1e-3)


def test_large_pictures_are_filtered_around_a_point():
    field = handmade_field(torch.rand(1, 257, 384), Controls('shape'))
    for x, y in ((0, 0), (200, 100), (383, 256)):
        rows, columns = region_around(field, x, y)
        assert rows.start <= y < rows.stop <= 257 and columns.start <= x < columns.stop <= 384
        assert (rows.stop - rows.start) * (columns.stop - columns.start) < MOST


@pytest.mark.parametrize('norm', ['randers', 'matsumoto'])
def test_the_outline_is_where_the_norm_is_one(image, norm):
    controls = Controls('shape', norm, asymmetry=0.4, geodesic=False)
    field = handmade_field(image, controls)
    balls = balls_at(field, 11, 7, controls)
    assert balls.centre == (11, 7) and (balls.tangent[0] == balls.tangent[-1]).all()
    offsets = torch.as_tensor(balls.tangent - balls.centre).float().T[None, :, :, None]
    norms = finsler_norm(field.metric[..., :1, :1].expand(1, 5, offsets.shape[2], 1), offsets, norm)
    assert torch.allclose(norms, torch.ones(()), atol=1e-3)


@pytest.mark.parametrize('x, y', [(30, 28), (0, 5)])
def test_the_geodesic_ball_is_that_of_the_whole_picture(x, y):
    image = shapes(60).image
    controls = Controls(kernel_size=3, spread=0.6, flow_time=2.0)
    field = handmade_field(image, controls)
    balls = balls_at(field, x, y, controls)
    time = heat_time_of(field, controls.spread)
    whole = geodesic_ball(
        field.metric, 3, heat_step=time / STEPS, heat_time=time, flow_step=0.4, flow_time=2.0, stencil_scale=0.5, window='auto', support='onion'
    )
    moved = torch.as_tensor(balls.geodesic_samples - balls.centre).float()
    assert torch.allclose(moved, whole[0, :, :, y, x], atol=1e-3)
    assert not torch.allclose(moved, 0.5 * tangent_ball(field.metric, 'onion', 3)[0, :, :, y, x], atol=0.1)


def test_a_norm_without_heat_says_so(image):
    controls = Controls('shape', 'matsumoto', asymmetry=0.2)
    balls = balls_at(handmade_field(image, controls), 3, 3, controls)
    assert balls.geodesic is None and 'none of the Matsumoto norm' in balls.note
    with pytest.raises(ValueError, match='none of the Matsumoto norm'):
        filter_geodesic(handmade_field(image, controls), image, image, controls)


@pytest.mark.parametrize('options', [{'stride': 2, 'padding': 1}, {'padding': 'same', 'dilation': 2, 'support': 'grid'}, {}])
def test_the_balls_of_a_layer_are_where_it_samples(options):
    layer = MetricConv2d(2, 3, 3, predictor_init='paper', **options)
    torch.nn.init.normal_(layer.predictor.weight, std=0.3)
    input = torch.randn(1, 2, 12, 10)
    field = layer_field(layer, input, (24, 40))
    balls = balls_over('layer', layer, input)
    controls = Controls('layer', geodesic=False)
    for row, column in ((0, 0), (3, 2)):
        drawn = balls_at(field, *field.centre(row, column), controls)
        # a pixel of the input is 2 rows and 4 columns of the picture
        to_input = [((np.array(points) + 0.5) / (4, 2) - 0.5) for points in (drawn.centre, drawn.samples)]
        assert to_input[0] == pytest.approx(balls.centres[row, column])
        assert to_input[1] == pytest.approx(balls.samples[row, column], abs=1e-4)
    picture = torch.rand(3, 24, 40)
    assert filter_tangent(field, picture, picture).image.shape[1:] == layer(input).shape[2:]


def test_noise_is_measured(image):
    controls = Controls('shape', radius=1.5, asymmetry=0.0, anisotropy=1.0, kernel_size=3)
    noisy = image + 0.3 * torch.randn_like(image)
    filtered = filter_tangent(handmade_field(noisy, controls), noisy, image)
    assert filtered.before == pytest.approx(10.46, abs=0.3) and filtered.after > filtered.before + 3


@pytest.mark.parametrize('size', [(1, 1), (1, 7)])
@pytest.mark.parametrize('source', ['shape', 'gradient'])
def test_pictures_of_hardly_any_pixels(size, source):
    image = torch.rand(3, *size)
    controls = Controls(source, sigma=0.1)
    field = handmade_field(image, controls)
    balls = balls_at(field, 0, 0, controls)
    assert torch.isfinite(filter_geodesic(field, image, image, controls).image).all()
    assert all(torch.isfinite(torch.as_tensor(points)).all() for points in (balls.tangent, balls.samples, balls.geodesic, balls.geodesic_samples))
    assert torch.isfinite(filter_tangent(field, image, image).image).all()


@pytest.mark.parametrize(
    'given, message',
    [
        ({'source': 'shape', 'asymmetry': 1.0}, 'Randers norm needs less than 1'),
        ({'source': 'shape', 'norm': 'matsumoto', 'asymmetry': 0.5}, 'Matsumoto norm needs less than 0.5'),
        ({'source': 'gradient', 'asymmetry': 1.0}, 'expected less than 1'),
        ({'radius': None, 'sigma': None}, 'radius and sigma: expected a number'),
        ({'source': 'guess'}, 'unknown source'),
        ({'kernel_size': 4}, 'expected an odd number'),
    ],
)
def test_controls_that_make_no_metric(given, message):
    with pytest.raises(ValueError, match=message):
        Controls(**given)

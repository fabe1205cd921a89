import pytest
import torch
from torch.nn.functional import avg_pool2d

from metricconv_mm.denoising import FILTERS, Settings, apply_filters, gradient_metric_of, psnr
from metricconv_mm.geometry import tangent_ball


def filtered(image, settings, name):
    return dict(apply_filters(image, settings, [name]))


def test_standard_is_the_box(scene):
    (image,) = filtered(scene, Settings(5), 'standard').values()
    assert torch.allclose(image, avg_pool2d(scene, 5, stride=1, padding=2), atol=1e-6)


@pytest.mark.parametrize('name', FILTERS)
def test_what_is_constant_stays_so_inside(name):
    image = torch.full((1, 60, 60), 0.7)
    for label, out in filtered(image, Settings(5), name).items():
        assert torch.allclose(out[:, 20:40, 20:40], image[:, 20:40, 20:40], atol=1e-5), label


@pytest.mark.parametrize('name', FILTERS)
def test_channels_are_filtered_alike(name, scene):
    """A colour image of three equal channels is the grey one three times: the metric sees their mean."""
    settings = Settings(5)
    # noise everywhere: the direction of a gradient that is rounding alone differs
    scene = scene + 0.1 * torch.randn(scene.shape)
    grey, colour = filtered(scene, settings, name), filtered(scene.expand(3, -1, -1), settings, name)
    if name == 'deformable':  # whose offsets are drawn for every channel
        (image,) = colour.values()
        assert image.shape == (3, 40, 40) and torch.equal(image, *filtered(scene.expand(3, -1, -1), settings, name).values())
        assert not torch.equal(image, *filtered(scene.expand(3, -1, -1), Settings(5, seed=1), name).values())
        return
    for label, image in grey.items():
        difference = (colour[label] - image).abs()
        # the flow of geodesic balls goes one way or the other at a ridge of the heat, as rounding decides
        assert difference.quantile(0.99) < 1e-4 and (name == 'geodesic' or difference.max() < 1e-4), label


def test_interpolated_samples_span_the_square(scene, loop_convolution):
    (image,) = filtered(scene, Settings(3, span=0.75), 'interpolated').values()
    expected = loop_convolution(
        scene[None].double(), torch.full((1, 1, 3, 3), 1 / 9).double(), None, None,
        lambda n, group, row, column, a, b: (row + 0.75 * (a - 1), column + 0.75 * (b - 1)), (40, 40),
    )  # fmt: skip
    assert torch.allclose(image, torch.as_tensor(expected)[0].float(), atol=1e-5)


def test_tangent_is_the_mean_over_the_ball_and_its_centre(scene, loop_convolution):
    settings = Settings(3, taus=(0.6,))
    (image,) = filtered(scene, settings, 'tangent').values()
    samples = tangent_ball(gradient_metric_of(scene[None], settings, 0.6), 'polar', 3)[0]
    mean = loop_convolution(
        scene[None].double(), torch.full((1, 1, 3, 3), 1 / 9).double(), None, None,
        lambda n, group, row, column, a, b: (row + samples[3 * a + b, 1, row, column].item(), column + samples[3 * a + b, 0, row, column].item()),
        (40, 40),
    )  # fmt: skip
    assert torch.allclose(image, (9 * torch.as_tensor(mean)[0].float() + scene) / 10, atol=1e-4)


def test_balls_along_edges_denoise_better_than_boxes(scene):
    noisy = scene + 0.1 * torch.randn(scene.shape)
    images = dict(apply_filters(noisy, Settings(11, taus=(0,))))
    quality = {label: psnr(image, scene) for label, image in images.items()}
    balls = [quality.pop(f'unit {kind} balls, tau 0') for kind in ('tangent', 'geodesic')]
    assert min(balls) > max(quality.values()) and min(balls) > psnr(noisy, scene) + 3


@pytest.mark.parametrize('size', [(1, 1), (3, 2), (1, 9)])
def test_images_smaller_than_the_kernel(size):
    for label, image in apply_filters(torch.rand(1, *size), Settings(11)):
        assert image.shape == (1, *size) and image.isfinite().all(), label


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(kernel_size=4), 'odd kernel size'),
        (dict(kernel_size=-1), 'odd kernel size'),
        (dict(taus=(0, 1.0)), r'0 <= tau < 1.*\[1.0\]'),
        (dict(taus=(-0.1,)), '0 <= tau < 1'),
        (dict(dilation=0), 'dilation of at least 1'),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_unknown_filters_and_shapes_are_refused(scene):
    with pytest.raises(ValueError, match="unknown filters \\['box'\\]: choose from \\['standard'"):
        list(apply_filters(scene, Settings(), ['box']))
    with pytest.raises(ValueError, match=r'expected a floating point image \[C, H, W\]'):
        list(apply_filters(scene[0], Settings()))
    for image in (scene[:, :0], scene.where(scene < 0.9, torch.nan), scene / 0):
        with pytest.raises(ValueError, match='at least one pixel, all finite'):
            list(apply_filters(image, Settings(), ['standard']))

"""Metrics from image gradients, and of a chosen shape."""

import math

import numpy as np
import pytest
import torch

from metricconv_mm.geometry import anisotropy, drift_norm, gradient_metric, is_positive, shaped_metric, tangent_ball


def by_numpy(image, iota, anisotropy, elongate, drift, tau, eps):
    """The metric of one grey image, pixel by pixel."""
    height, width = image.shape
    padded = np.pad(image, 1)
    g = np.zeros((height, width, 2))
    for row in range(height):
        for column in range(width):
            window = padded[row : row + 3, column : column + 3]
            g[row, column, 0] = (window[:, 2] - window[:, 0]) @ (1, 2, 1)
            g[row, column, 1] = (window[2] - window[0]) @ (1, 2, 1)
    largest = np.linalg.norm(g, axis=-1).max()
    metric = np.zeros((5, height, width))
    for row in range(height):
        for column in range(width):
            vector = g[row, column]
            length = np.linalg.norm(vector)
            along = np.outer(vector, vector) / length**2 if length else np.diag([1, 0])
            across = np.eye(2) - along
            gain = 1 + anisotropy * length / largest
            large, small = gain / iota, 1 / (iota * gain)
            matrix = {'edge': large * along + small * across, 'gradient': small * along + large * across, 'none': np.eye(2) / iota}[elongate]
            w = vector if drift == 'gradient' else np.array([-vector[1], vector[0]])
            w = w / largest
            w = tau * w / (math.sqrt(w @ np.linalg.inv(matrix) @ w) + eps)
            metric[:, row, column] = matrix[0, 0], matrix[0, 1], matrix[1, 1], *w
    return metric


def test_defaults_are_those_of_the_paper():
    image = torch.rand(1, 1, 6, 5, dtype=torch.float64)
    expected = gradient_metric(image, iota=10, anisotropy=100, elongate='edge', drift='edge', tau=0, eps=1e-6)
    assert torch.equal(gradient_metric(image), expected)


@pytest.mark.parametrize('elongate', ['edge', 'gradient', 'none'])
@pytest.mark.parametrize('drift', ['edge', 'gradient'])
@pytest.mark.parametrize('tau', [0, 0.5, 0.9])
def test_formulas_of_the_paper(elongate, drift, tau):
    images = torch.rand(2, 1, 6, 5, dtype=torch.float64)
    options = {'iota': 3.0, 'anisotropy': 7.0, 'elongate': elongate, 'drift': drift, 'tau': tau, 'eps': 1e-6}
    metric = gradient_metric(images, **options)
    for image, one in zip(images, metric, strict=True):
        np.testing.assert_allclose(one.numpy(), by_numpy(image[0].numpy(), **options), rtol=1e-9, atol=1e-12)
    assert is_positive(metric).all()


def vertical_edge():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    image[..., 4:] = 1
    return image


def test_ball_is_stretched_along_the_edge():
    m_xx, m_xy, m_yy = gradient_metric(vertical_edge(), tau=0)[0, :3, 4, 4]
    assert m_yy < m_xx and m_xy.abs() < 1e-12  # a vertical edge: a small eigenvalue, and a long radius, in y
    m_xx, _, m_yy = gradient_metric(vertical_edge(), elongate='gradient')[0, :3, 4, 4]
    assert m_xx < m_yy


def test_drift_has_the_length_and_direction_asked_for():
    for drift, axis in (('gradient', 3), ('edge', 4)):
        metric = gradient_metric(vertical_edge(), drift=drift, tau=0.5)
        assert metric[0, axis, 4, 4] > 0 and metric[0, 7 - axis, 4, 4].abs() < 1e-12
        torch.testing.assert_close(drift_norm(metric)[0, 4, 4], torch.tensor(0.5, dtype=torch.float64), rtol=1e-4, atol=0)


@pytest.mark.parametrize('tau', [0, 0.9])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_flat_regions_get_disks(tau, dtype):
    image = torch.full((1, 1, 8, 8), 0.25, dtype=dtype)
    inside = gradient_metric(image, iota=4.0, tau=tau)[:, :, 2:-2, 2:-2]  # zero padding is an edge at the border
    assert torch.equal(inside, torch.tensor([0.25, 0, 0.25, 0, 0], dtype=dtype).view(1, 5, 1, 1).expand(1, 5, 4, 4))


def test_black_images_get_disks_everywhere():
    metric = gradient_metric(torch.zeros(2, 3, 4, 4), iota=2.0, tau=0.9)
    assert torch.equal(metric, torch.tensor([0.5, 0, 0.5, 0, 0]).view(1, 5, 1, 1).expand(2, 5, 4, 4))


def test_colours_are_averaged():
    image = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(gradient_metric(image, tau=0.5), gradient_metric(image.mean(1, keepdim=True), tau=0.5))


def test_images_of_a_batch_do_not_meet():
    images = torch.rand(2, 1, 5, 5, dtype=torch.float64)
    images[1] *= 100  # its gradient would dominate a maximum over the batch
    torch.testing.assert_close(gradient_metric(images, tau=0.5), torch.cat([gradient_metric(image, tau=0.5) for image in images.split(1)]))


def test_contrast_does_not_matter():
    image = torch.rand(1, 1, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(gradient_metric(image, tau=0.5), gradient_metric(image * 8, tau=0.5))


def test_gradient_with_respect_to_the_image_passes_gradcheck():
    image = torch.rand(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gradient_metric(x, anisotropy=5.0, tau=0.5), image)


@pytest.mark.parametrize('tau', [0, 0.5])
def test_gradient_with_respect_to_a_flat_image_is_finite(tau):
    image = torch.zeros(1, 1, 6, 6)
    image[..., 4:] = 1
    image.requires_grad_()
    gradient_metric(image, tau=tau).square().sum().backward()
    assert image.grad.isfinite().all()


def test_nan_is_not_hidden():
    images = torch.rand(2, 1, 5, 5)
    images[0, 0, 2, 2] = math.nan
    metric = gradient_metric(images, tau=0.5)
    assert metric[0].isnan().any() and metric[1].isfinite().all()


@pytest.mark.parametrize(
    ('image', 'options', 'words'),
    [
        (torch.ones(3, 5, 5), {}, r'expected a floating point image \[N, C, H, W\], got image\.shape=\(3, 5, 5\)'),
        (torch.ones(1, 1, 5, 5, dtype=torch.uint8), {}, r'got .*image\.dtype=torch\.uint8'),
        (None, {'elongate': 'both'}, r"unknown elongate='both': choose one of \('edge', 'gradient', 'none'\)"),
        (None, {'drift': 'none'}, r"unknown drift='none': choose one of \('edge', 'gradient'\)"),
        (None, {'tau': 1.0}, 'expected 0 <= tau < 1.*got tau=1.0'),
        (None, {'tau': -0.1}, 'expected 0 <= tau < 1.*got tau=-0.1'),
        (None, {'iota': 0.0}, 'expected iota > 0 and anisotropy >= 0.*got iota=0.0'),
        (None, {'iota': math.inf}, 'both finite.*got iota=inf'),
        (None, {'anisotropy': -1.0}, 'expected iota > 0 and anisotropy >= 0.*got .*anisotropy=-1.0'),
        (None, {'anisotropy': math.nan}, 'got .*anisotropy=nan'),
        (None, {'eps': -1.0}, 'eps >= 0, got .*eps=-1.0'),
        (torch.ones(1, 1, 0, 5), {}, r'got image\.shape=\(1, 1, 0, 5\)'),
        (torch.ones(1, 0, 5, 5), {}, r'got image\.shape=\(1, 0, 5, 5\)'),
        *((None, options, 'torch.float32 does not hold .* choose less extreme') for options in ({'iota': 1e30}, {'iota': 1e-30, 'tau': 0.5})),
        (None, {'anisotropy': 1e30}, 'torch.float32 does not hold .* choose less extreme'),
        (1e30 * torch.eye(5)[None, None], {'tau': 0.5}, 'torch.float32 does not hold'),
    ],
)
def test_errors_say_what_fits(image, options, words):
    with pytest.raises(ValueError, match=words):
        gradient_metric(torch.ones(1, 1, 5, 5) if image is None else image, **options)


@pytest.mark.parametrize('norm', ['randers', 'matsumoto'])
def test_a_shaped_metric_has_the_shape(norm):
    metric = shaped_metric(3.0, 4.0, 20.0, 0.4, -70.0, norm=norm, dtype=torch.float64)
    assert metric.shape == (1, 5, 1, 1) and is_positive(metric, norm).all()
    assert torch.allclose(anisotropy(metric), torch.tensor(4.0, dtype=torch.float64)) and torch.allclose(
        drift_norm(metric), torch.tensor(0.4, dtype=torch.float64)
    )
    m_xx, m_xy, m_yy, w_x, w_y = metric.flatten().tolist()
    matrix = np.array([[m_xx, m_xy], [m_xy, m_yy]])
    axis = np.array([math.cos(math.radians(20)), math.sin(math.radians(20))])
    # the long half axis: 3 sqrt(4) pixels, at 20 degrees
    np.testing.assert_allclose(6 * axis @ matrix @ axis * 6, 1)
    np.testing.assert_allclose(np.linalg.det(matrix), 3.0**-4)
    lean = -np.linalg.solve(matrix, [w_x, w_y])
    np.testing.assert_allclose(math.degrees(math.atan2(lean[1], lean[0])), -70)
    ball = tangent_ball(metric, 'polar', (1, 4000), norm=norm)[0, :, :, 0, 0].numpy()
    assert np.dot(ball.mean(0), (math.cos(math.radians(-70)), math.sin(math.radians(-70)))) > 0.1


def test_a_ball_of_randers_has_its_centre_where_it_leans():
    metric = shaped_metric(5.0, 3.0, 60.0, 0.7, 130.0, dtype=torch.float64)
    ball = tangent_ball(metric, 'polar', (1, 3600))[0, :, :, 0, 0].numpy()
    # halfway between the two boundary points on the line through the pixel along the lean
    direction = np.array([math.cos(math.radians(130)), math.sin(math.radians(130))])
    front, back = ball[1300], ball[1300 - 1800]
    middle = (front + back) / 2
    np.testing.assert_allclose(middle / np.linalg.norm(middle), direction, atol=1e-4)


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'radius': 0.0}, 'radius above 0'),
        ({'radius': 2.0, 'anisotropy': 0.5}, 'anisotropy of at least 1'),
        ({'radius': 2.0, 'asymmetry': 1.0}, 'asymmetry < 1'),
        ({'radius': 2.0, 'asymmetry': 0.5, 'norm': 'matsumoto'}, 'asymmetry < 0.5'),
        ({'radius': 2.0, 'norm': 'euclid'}, 'unknown norm'),
    ],
)
def test_shapes_that_no_metric_has(arguments, message):
    with pytest.raises(ValueError, match=message):
        shaped_metric(**arguments)

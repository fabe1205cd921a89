"""The metrics that a layer can predict."""

import copy

import pytest
import torch

from metricconv_mm import MetricConv2d
from metricconv_mm.functional import deform_conv2d, metric_conv2d
from metricconv_mm.geometry import METRICS, NORMS, ball_radius, drift_norm, finsler_norm, kernel_grid, raw_channels
from metricconv_mm.layers import geometry_statistics

GEOMETRY = {'stride': (2, 1), 'padding': (1, 2), 'dilation': (1, 2)}
CHANNELS = {'randers': 7, 'matsumoto': 7, 'riemann': 5, 'isotropic': 1}
every_metric = pytest.mark.parametrize('metric', METRICS)


@pytest.fixture
def layer(stir, metric):
    return stir(MetricConv2d(4, 6, 3, groups=2, metric_groups=2, metric=metric, dtype=torch.float64, **GEOMETRY))


@pytest.fixture
def image():
    return torch.randn(2, 4, 9, 8, dtype=torch.float64)


@every_metric
def test_raw_channels(layer, metric):
    assert layer.predictor_channels() == CHANNELS[metric] == raw_channels(layer.encoding, layer.drift)
    assert layer.predictor.out_channels == 2 * CHANNELS[metric]
    assert f'metric={metric!r}' in repr(layer)


@pytest.mark.parametrize(('metric', 'encoding', 'channels'), [('riemann', 'ldl', 3), ('matsumoto', 'cholesky', 5), ('matsumoto', 'isotropic', 3)])
def test_encodings_of_a_metric(metric, encoding, channels):
    assert MetricConv2d(4, 6, 3, metric=metric, encoding=encoding).predictor.out_channels == channels


@every_metric
@pytest.mark.parametrize('encoding', ['spectral_scaled', 'cholesky'])
@pytest.mark.parametrize('scale', [0.2, 5.0])
def test_metrics_are_positive_whatever_the_predictor_says(stir, metric, encoding, scale):
    encoding = None if metric == 'isotropic' else encoding
    layer = stir(MetricConv2d(4, 2, 3, metric=metric, encoding=encoding, eps_w=0.05, padding=1), scale)
    found = layer.metric(torch.randn(2, 4, 17, 16))
    angles = torch.arange(0, 360, 5.0).deg2rad()
    norms = finsler_norm(found.unsqueeze(1), torch.stack([angles.cos(), angles.sin()], 1)[..., None, None], layer.norm)
    assert norms.isfinite().all() and (norms > 0).all()
    # of matrices that rounding leaves far from singular, the drift can be told
    known = (found[:, 0] * found[:, 2] - found[:, 1].square() > 1e-3 * found[:, 0] * found[:, 2]) & (found[:, [0, 2]].amin(1) > 1e-3)
    asymmetry, limit = drift_norm(found)[known], 0.0 if layer.drift == 'none' else NORMS[layer.norm].limit
    assert len(asymmetry) and (asymmetry <= limit + 1e-18).all() and (asymmetry.amax() >= 0.3 * limit)


@every_metric
def test_riemannian_metrics_have_no_drift_and_isotropic_ones_no_direction(layer, image, metric):
    m_xx, m_xy, m_yy, w_x, w_y = layer.metric(image).unflatten(1, (2, 5)).unbind(2)
    assert bool(w_x.any() or w_y.any()) is (metric in ('randers', 'matsumoto'))
    assert (torch.equal(m_xx, m_yy) and not m_xy.any()) is (metric == 'isotropic')
    assert m_xx.std() > 0


@every_metric
def test_samples_and_values_are_those_of_the_norm(layer, image, metric):
    found = layer.metric(image)
    expected = metric_conv2d(image, found, layer.weight, layer.bias, norm=layer.norm, groups=2, **GEOMETRY)
    out, samples = layer(image), layer.samples(image)
    torch.testing.assert_close(out, expected)
    radii = finsler_norm(found.unflatten(1, (2, 1, 5)), samples.unflatten(1, (2, 9)), layer.norm)
    torch.testing.assert_close(radii[:, :, [0, 2, 7]], torch.ones_like(radii[:, :, :3]), rtol=1e-4, atol=0)  # on the boundary, up to eps
    offset = samples.unflatten(1, (2, 9)) - kernel_grid((3, 3), layer.dilation, samples)[..., None, None]
    torch.testing.assert_close(out, deform_conv2d(image, offset.flip(3).flatten(1, 3), layer.weight, layer.bias, groups=2, **GEOMETRY))


@every_metric
def test_every_parameter_learns(stir, metric):
    # from anywhere but the isotropic metric, which has no axes to turn
    layer = stir(MetricConv2d(4, 6, 3, padding=1, metric=metric, metric_groups=2, modulation=True))
    layer(torch.randn(2, 4, 8, 8)).square().mean().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.flatten(1 if parameter.dim() > 1 else 0).any(-1).all(), name


@every_metric
def test_training_lowers_the_loss(stir, metric):
    layer, target = (stir(MetricConv2d(2, 2, 3, padding=1, metric=metric, fixed_kernel=True), scale) for scale in (0.1, 1.0))
    image = torch.rand(1, 2, 12, 12)
    wanted, losses = target(image).detach(), []
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(20):
        optimiser.zero_grad()
        losses.append(torch.nn.functional.mse_loss(layer(image), wanted))
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]


@every_metric
def test_on_a_grid_it_starts_as_a_plain_convolution(metric, image):
    layer = MetricConv2d(4, 6, 3, metric=metric, support='grid', dtype=torch.float64, **GEOMETRY)
    expected = torch.nn.functional.conv2d(image, layer.weight, layer.bias, **GEOMETRY)
    torch.testing.assert_close(layer(image), expected)
    layer(image).square().sum().backward()
    assert layer.predictor.weight.grad.any()


@every_metric
def test_checkpoints_round_trip_and_copies_are_equal(layer, stir, image, metric):
    other = stir(MetricConv2d(4, 6, 3, groups=2, metric_groups=2, metric=metric, dtype=torch.float64, **GEOMETRY))
    assert not torch.equal(other(image), layer(image))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(image), layer(image)) and torch.equal(copy.deepcopy(layer)(image), layer(image))


def test_a_checkpoint_with_other_raw_channels_is_refused():
    with pytest.raises(RuntimeError, match=r'size mismatch for predictor\.weight'):
        MetricConv2d(4, 6, 3, metric='riemann').load_state_dict(MetricConv2d(4, 6, 3).state_dict())


@every_metric
def test_compiled_layers_are_eager_ones(stir, metric):
    layer, image = stir(MetricConv2d(4, 6, 3, padding=1, metric=metric)), torch.randn(2, 4, 8, 8)
    torch.compiler.reset()
    out, expected = torch.compile(layer, backend='aot_eager', fullgraph=True)(image), layer(image)
    torch.testing.assert_close(out, expected)
    parameters = list(layer.parameters())
    torch.testing.assert_close(*(torch.autograd.grad(o.square().mean(), parameters) for o in (out, expected)), rtol=1e-4, atol=1e-6)


@every_metric
def test_statistics_are_those_of_the_norm(layer, image, metric):
    found = layer.metric(image).unflatten(1, (2, 5))
    assert geometry_statistics(layer, image)['radius'] == pytest.approx(ball_radius(found, METRICS[metric].norm).mean().item())

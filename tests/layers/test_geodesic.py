"""GeodesicConv2d, beyond what all layers are tested for."""

import copy

import pytest
import torch
from torch import nn

from metricconv_mm import GeodesicConv2d, MetricConv2d, surgery
from metricconv_mm.functional import geodesic_ball, geodesic_conv2d

GEOMETRY = {'stride': (2, 1), 'padding': (1, 2), 'dilation': (1, 2)}


@pytest.mark.parametrize('support', ['onion', 'polar', 'grid'])
def test_it_is_the_function_of_its_metric(stir, support):
    times = {'heat_step': 0.2, 'heat_time': 0.4, 'flow_step': 0.3, 'flow_time': 0.6, 'stencil_scale': 0.7, 'flow_eps': 1e-2}
    layer = stir(GeodesicConv2d(4, 6, 3, groups=2, metric_groups=2, support=support, **times, **GEOMETRY).double())
    image = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    metric = layer.metric(image)
    expected = geodesic_conv2d(image, metric, layer.weight, layer.bias, support=support, groups=2, **times, **GEOMETRY)
    torch.testing.assert_close(layer(image), expected)
    samples = geodesic_ball(metric, 3, support=support, spacing=(2, 1), dilation=(1, 2), **times)
    torch.testing.assert_close(layer.samples(image), samples)


def test_without_flow_it_is_a_metric_convolution(stir):
    layer, plain = stir(GeodesicConv2d(4, 6, 3, stencil_scale=1.0, flow_time=0.0)), MetricConv2d(4, 6, 3)
    plain.load_state_dict(layer.state_dict())
    image = torch.randn(2, 4, 9, 8)
    torch.testing.assert_close(layer(image), plain(image))


def test_the_defaults_lead_the_unit_disk_to_itself():
    layer = GeodesicConv2d(3, 2, 3, predictor_init='identity', dtype=torch.float64)
    samples = layer.samples(torch.randn(1, 3, 20, 20, dtype=torch.float64))[0, :, :, 9, 9]
    assert samples[4].norm() < 1e-6  # the centre of the rings
    radii = samples.norm(dim=1)[[0, 1, 2, 3, 5, 6, 7, 8]]
    # 1.25^3 / 2 along the axes, where V is linear, and less between them
    assert radii.max().item() == pytest.approx(1.25**3 / 2, abs=5e-3) and radii.min() > 0.8


def test_a_metric_learns_from_its_neighbours():
    """Unlike a tangent ball, a geodesic ball depends on the metrics around it."""
    changed = {}
    for cls in (MetricConv2d, GeodesicConv2d):
        layer = cls(1, 1, 3, padding=1, dtype=torch.float64)
        raw = torch.zeros(1, 7, 9, 9, dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(layer._grouped_samples(raw + 0.1 * torch.randn_like(raw))[..., 4, 4].square().sum(), raw)
        changed[cls] = grad.abs().sum(1)[0] > 0
    assert changed[MetricConv2d].sum() == 1 and changed[GeodesicConv2d].sum() > 9


def test_training_lowers_the_loss(stir):
    layer = stir(GeodesicConv2d(2, 2, 3, padding=1, fixed_kernel=True), 0.1)
    image = torch.rand(1, 2, 12, 12)
    target = stir(GeodesicConv2d(2, 2, 3, padding=1, fixed_kernel=True), 1.0)(image).detach()
    optimiser, losses = torch.optim.Adam(layer.parameters(), lr=0.02), []
    for _ in range(20):
        optimiser.zero_grad()
        losses.append(nn.functional.mse_loss(layer(image), target))
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]


def test_pretrained_networks_come_near_to_what_they_computed():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).eval()
    image = nn.functional.interpolate(torch.randn(2, 3, 12, 12), scale_factor=4, mode='bicubic')
    with torch.no_grad():
        before = model(image)[..., 4:-4, 4:-4]
        near = surgery.convert(copy.deepcopy(model), 'GeodesicConv', support='grid')(image)[..., 4:-4, 4:-4]
        exact = surgery.convert(copy.deepcopy(model), 'GeodesicConv', support='grid', stencil_scale=1.0, flow_time=0.0)(image)[..., 4:-4, 4:-4]
    assert 1e-3 * before.norm() < (near - before).norm() < 0.15 * before.norm()
    torch.testing.assert_close(exact, before, rtol=1e-4, atol=1e-5)


def test_heat_that_leaves_the_window_says_which_would_do(stir):
    layer = stir(GeodesicConv2d(4, 6, 3, padding=1, window=3))
    with pytest.raises(ValueError, match='window=3 is too small for these times: .* Use window='):
        layer(torch.randn(1, 4, 12, 12))


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'heat_step': 0.0}, 'expected heat_step > 0, got heat_step=0.0'),
        ({'flow_time': -1.0}, 'expected flow_time >= 0'),
        ({'heat_step': 1e-9}, 'at most 10000 steps'),
        ({'stencil_scale': -1.0}, 'expected stencil_scale >= 0'),
        ({'flow_eps': 0.0}, 'expected flow_eps > 0'),
        ({'window': 4}, 'expected window as an odd number of pixels'),
        ({'support': 'star'}, "unknown support='star'"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit(arguments, words):
    with pytest.raises(ValueError, match=words):
        GeodesicConv2d(4, 6, 3, **arguments)


def test_its_representation_shows_the_times():
    assert 'heat_step=0.25, heat_time=0.5, flow_step=0.25, flow_time=0.75, stencil_scale=0.5' in repr(GeodesicConv2d(4, 6, 3))


@pytest.mark.parametrize('metric', ['riemann', 'isotropic'])
def test_metrics_without_drift_flow_too(metric):
    layer = GeodesicConv2d(2, 3, 3, padding=1, metric=metric)
    layer(torch.randn(1, 2, 6, 7)).sum().backward()
    assert layer.predictor.weight.grad.isfinite().all() and layer.predictor.weight.grad.any()


def test_norms_without_a_dual_are_refused():
    with pytest.raises(ValueError, match="metric='matsumoto' has no geodesic ball here"):
        GeodesicConv2d(2, 3, 3, metric='matsumoto')

"""What the layers compute, and how they learn."""

import math

import pytest
import torch
from torch import nn

from metricconv_mm import DeformConv2d, MetricConv2d
from metricconv_mm.functional import deform_conv2d, metric_conv2d
from metricconv_mm.geometry import DRIFTS, ENCODINGS, SUPPORTS, drift_norm, kernel_grid, randers_norm, tangent_ball

GEOMETRY = {'stride': (2, 1), 'padding': (1, 2), 'dilation': (1, 2)}
every_encoding = pytest.mark.parametrize('encoding', sorted(ENCODINGS))


@every_encoding
@pytest.mark.parametrize('drift', sorted(set(DRIFTS) - {'none'}))
@pytest.mark.parametrize('scale', [0.2, 1.0, 5.0])
def test_metrics_are_positive_whatever_the_predictor_says(stir, encoding, drift, scale):
    layer = stir(MetricConv2d(4, 2, 3, encoding=encoding, drift=drift, eps_w=0.1, metric_groups=2, **GEOMETRY), scale)
    image = torch.randn(2, 4, 17, 16)
    metric = layer.metric(image)
    assert metric.shape == (2, 10, *layer(image).shape[2:]) and metric.dtype == torch.float32
    angles = torch.arange(0, 360, 5.0).deg2rad()
    norms = randers_norm(metric.unflatten(1, (2, 1, 5)), torch.stack([angles.cos(), angles.sin()], 1)[..., None, None])
    assert norms.isfinite().all() and (norms > 0).all()
    assert (drift_norm(metric.unflatten(1, (2, 5))) > 0.5).any()


def test_eps_w_one_is_riemannian(stir):
    layer = stir(MetricConv2d(4, 2, 3, eps_w=1.0))
    assert not layer.metric(torch.randn(1, 4, 8, 8))[:, 3:].any()


@pytest.mark.parametrize('support', sorted(SUPPORTS))
def test_metric_layers_are_the_function_of_their_metric(stir, support):
    layer = stir(MetricConv2d(4, 6, 3, groups=2, metric_groups=2, support=support, kernel_init='kaiming', **GEOMETRY).double())
    image = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    metric = layer.metric(image)
    expected = metric_conv2d(image, metric, layer.weight, layer.bias, support=support, groups=2, **GEOMETRY)
    torch.testing.assert_close(layer(image), expected)
    samples = tangent_ball(metric.unflatten(1, (2, 5)), support, 3, dilation=layer.dilation)
    torch.testing.assert_close(layer.samples(image), samples.flatten(1, 2))


@pytest.mark.parametrize('mode', ['zeros', 'reflect'])
def test_layers_are_deformable_convolutions_at_their_samples(cls, stir, mode):
    groups = {cls.groups_argument: 2}
    layer = stir(cls(4, 6, 3, groups=2, padding_mode=mode, kernel_init='kaiming', dtype=torch.float64, **groups, **GEOMETRY))
    image = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    samples, out = layer.samples(image), layer(image)
    assert samples.shape == (2, 2 * 9, 2, *out.shape[2:])
    offset = samples.unflatten(1, (2, 9)) - kernel_grid((3, 3), layer.dilation, samples)[..., None, None]
    geometry = GEOMETRY
    if mode == 'reflect':
        image = nn.functional.pad(image, (2, 2, 1, 1), mode=mode)
        geometry = {**GEOMETRY, 'padding': 0}
    expected = deform_conv2d(image, offset.flip(3).flatten(1, 3), layer.weight, layer.bias, groups=2, **geometry)
    torch.testing.assert_close(out, expected)


def test_parameter_groups_move_their_own_channels_alone(cls, stir):
    layer = stir(cls(4, 6, 3, padding=1, **{cls.groups_argument: 2}))
    image = torch.randn(1, 4, 8, 8)
    channels = layer.predictor_channels()
    with torch.no_grad():
        layer.weight[:, :2] = 0  # nothing of the first group's channels
        before = layer(image)
        layer.predictor.bias[:channels] += 1
        assert torch.equal(layer(image), before)
        layer.predictor.bias[channels:] += 1
        assert not torch.allclose(layer(image), before)


def test_every_parameter_learns(cls, stir):
    layer = stir(cls(4, 6, 3, padding=1, modulation=True, **{cls.groups_argument: 2}))
    layer(torch.randn(2, 4, 8, 8)).square().mean().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.flatten(1).any(1).all() if parameter.dim() > 1 else parameter.grad.all(), name


def test_modulation_learns_from_its_start(cls):
    layer = cls(4, 6, 3, modulation=True)
    layer(torch.randn(2, 4, 8, 8)).square().mean().backward()
    assert layer.predictor.weight.grad[-9:].flatten(1).any(1).all() and layer.predictor.bias.grad[-9:].all()


def test_black_images_give_finite_gradients(cls):
    layer = cls(4, 6, 3, padding=1)
    image = torch.zeros(2, 4, 8, 8)
    image[:, :, 3:5, 3:5] = torch.rand(2, 4, 2, 2)
    layer(image).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize('support', sorted(SUPPORTS))
def test_training_lowers_the_loss(stir, support):
    layer = stir(MetricConv2d(2, 2, 3, padding=1, support=support, fixed_kernel=True), 0.1)
    image = torch.rand(1, 2, 12, 12)
    target = stir(MetricConv2d(2, 2, 3, padding=1, support=support, fixed_kernel=True), 1.0)(image).detach()
    optimiser, losses = torch.optim.Adam(layer.parameters(), lr=0.02), []
    for _ in range(20):
        optimiser.zero_grad()
        losses.append(nn.functional.mse_loss(layer(image), target))
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]


def test_a_training_step_under_autocast(cls, stir):
    layer = stir(cls(4, 6, 3, padding=1, modulation=True), 0.1)
    image = torch.randn(2, 4, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(image)
        loss = out.square().mean()
    assert out.dtype == torch.bfloat16 and layer.samples(image).dtype == torch.float32
    loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())
    exact = layer(image)
    # the predictor runs in bfloat16, so samples move by its rounding: some hundredths of a pixel
    assert (out - exact).norm() < 0.05 * exact.norm()


def test_autocast_keeps_samples_precise(cls):
    layer, image = cls(4, 6, 3), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        layer.predictor.weight.zero_()
        layer.predictor.bias.copy_((8 * torch.randn_like(layer.predictor.bias)).round() / 8)  # exact in bfloat16: the predictor loses nothing
    expected = layer.samples(image)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(layer.samples(image), expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_narrow_modules(cls, stir, dtype):
    layer = stir(cls(4, 6, 3, padding=1), 0.1)
    image = torch.randn(2, 4, 8, 8)
    exact = layer(image)
    narrow = layer.to(dtype)
    out = narrow(image.to(dtype))
    assert out.dtype == dtype and (out - exact).norm() < 0.05 * exact.norm()
    out.float().square().mean().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in narrow.parameters())


@pytest.mark.parametrize('shift', [(1, 0), (0, 2), (-3, 1)])
def test_shifting_the_image_shifts_the_output(cls, stir, shift):
    layer = stir(cls(3, 2, 3, padding=1, dtype=torch.float64), 0.2)
    side = 40
    image = torch.randn(1, 3, side, side, dtype=torch.float64)
    shifted = torch.roll(image, shift, (2, 3))
    reach = int(max(layer.samples(image).abs().amax(), layer.samples(shifted).abs().amax()).item()) + 2
    border = max(map(abs, shift)) + reach
    assert 2 * border < side
    inside = (..., slice(border, -border), slice(border, -border))
    torch.testing.assert_close(layer(shifted)[inside], torch.roll(layer(image), shift, (2, 3))[inside])


def test_images_of_a_batch_do_not_meet(cls, stir):
    layer, images = stir(cls(4, 6, 3, padding=1, modulation=True, dtype=torch.float64)), torch.randn(5, 4, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(images), torch.cat([layer(image) for image in images.split(1)]))
    images.requires_grad_()
    layer(images)[2].sum().backward()
    assert images.grad[2].any() and not images.grad[[0, 1, 3, 4]].any()


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_a_bad_image_leaves_the_others_alone(cls, stir, value):
    layer, images = stir(cls(4, 6, 3, padding=1, modulation=True)), torch.randn(3, 4, 8, 8)
    expected = layer(images)
    spoiled = images.clone()
    spoiled[1, :, 2, 2] = value
    out = layer(spoiled)
    torch.testing.assert_close(out[::2], expected[::2])
    assert out[1].isnan().any()


def test_a_look_under_inference_mode_does_not_spoil_training(cls):
    size = (3, 4)  # whose support no other test asks for
    layer = cls(2, 2, size, **({'support': 'grid', 'dilation': (2, 1)} if cls is MetricConv2d else {}))
    image = torch.randn(1, 2, 8, 8)
    with torch.inference_mode():
        layer(image)
    layer(image).sum().backward()
    assert layer.predictor.weight.grad is not None


def test_compiled_layers_are_eager_ones(cls, stir):
    layer, image = stir(cls(4, 6, 3, padding=1, modulation=True)), torch.randn(2, 4, 8, 8)
    torch.compiler.reset()
    out, expected = torch.compile(layer, backend='aot_eager', fullgraph=True)(image), layer(image)
    torch.testing.assert_close(out, expected)
    parameters = list(layer.parameters())
    torch.testing.assert_close(*(torch.autograd.grad(o.square().mean(), parameters) for o in (out, expected)), rtol=1e-4, atol=1e-6)


def test_deformable_offsets_are_torchvisions(stir):
    layer, image = stir(DeformConv2d(4, 6, 3, padding=1)), torch.randn(1, 4, 8, 8)
    raw = layer.predictor(image, layer.stride, layer.padding, layer.dilation)
    torch.testing.assert_close(layer(image), deform_conv2d(image, raw, layer.weight, layer.bias, padding=1))

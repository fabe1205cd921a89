"""Where the layers start."""

import math

import pytest
import torch
from torch import nn

from metricconv_mm import DeformConv2d, MetricConv2d, ShiftedConv2d
from metricconv_mm.geometry import tangent_ball

IN, OUT, TAPS = 64, 32, 9
UNIFORM = 1 / (TAPS * IN)
SMALL = 1e-6
DEFAULT_BOUND = (TAPS * IN) ** -0.5  # of nn.Conv2d's random weights and biases
DEFAULT_SPREAD = DEFAULT_BOUND / math.sqrt(3)  # a uniform distribution's standard deviation

# the paper's intermediate convolutions: a constant a channel, or None for nn.Conv2d's default; every bias is 0
PAPER = {
    'cholesky': [UNIFORM, SMALL, UNIFORM, SMALL, SMALL],
    'ldl': [SMALL, UNIFORM, UNIFORM, SMALL, SMALL],
    'spectral': [None] * 6,
    'spectral_scaled': [None, None, *[SMALL] * 5],
    'isotropic': [SMALL] * 3,
}


def assert_channel(weight, constant):
    if constant is not None:
        torch.testing.assert_close(weight, torch.full_like(weight, constant))
        return
    assert weight.abs().max() <= DEFAULT_BOUND
    assert weight.abs().max() > 0.98 * DEFAULT_BOUND  # of 576 draws the largest misses this with probability 1e-5
    # five standard errors, 0.45 / sqrt(576) each, of a uniform distribution's sample deviation
    assert weight.std().item() == pytest.approx(DEFAULT_SPREAD, rel=0.1)


@pytest.mark.parametrize('encoding', sorted(PAPER))
@pytest.mark.parametrize('groups', [1, 2])
def test_predictors_of_metrics_start_as_in_the_paper(encoding, groups):
    layer = MetricConv2d(IN, OUT, 3, encoding=encoding, metric_groups=groups)
    weight = layer.predictor.weight
    assert weight.shape == (groups * len(PAPER[encoding]), IN, 3, 3)
    for channel, constant in zip(weight, PAPER[encoding] * groups, strict=True):
        assert_channel(channel, constant)
    assert not layer.predictor.bias.any()


@pytest.mark.parametrize(('cls', 'channels'), [(ShiftedConv2d, 2), (DeformConv2d, 2 * TAPS)])
def test_predictors_of_offsets_start_as_in_the_paper(cls, channels):
    layer = cls(IN, OUT, 3)
    assert layer.predictor.weight.shape == (channels, IN, 3, 3)
    assert_channel(layer.predictor.weight, SMALL)
    bias = layer.predictor.bias
    assert bias.unique().numel() == channels and bias.abs().max() <= DEFAULT_BOUND


def test_kernels_start_as_averages(cls):
    layer = cls(IN, OUT, 3, kernel_init='uniform')
    assert_channel(layer.weight, UNIFORM)
    assert not layer.bias.any()
    assert_channel(cls(IN, OUT, 3, groups=4, kernel_init='uniform').weight, 4 * UNIFORM)


def test_kernels_can_start_as_those_of_a_plain_convolution(cls):
    layer = cls(IN, OUT, 3, kernel_init='kaiming')
    for channel in layer.weight:
        assert_channel(channel, None)
    assert layer.bias.unique().numel() == OUT and layer.bias.abs().max() <= DEFAULT_BOUND
    grouped = cls(IN, OUT, 3, groups=4, kernel_init='kaiming')
    assert grouped.weight.abs().max().item() == pytest.approx(2 * DEFAULT_BOUND, rel=1e-2)
    assert grouped.bias.abs().max() > DEFAULT_BOUND


@pytest.mark.parametrize(
    ('encoding', 'eigenvalue'),
    [('spectral_scaled', 0.8), ('isotropic', 0.8), ('cholesky', 0.01**2), ('ldl', 0.01)],  # mean of scale_range; eps_L squared; eps_L
)
def test_balls_start_as_disks_on_black_images(encoding, eigenvalue):
    layer = MetricConv2d(3, 2, 3, encoding=encoding)
    metric = layer.metric(torch.zeros(1, 3, 5, 5))
    expected = torch.tensor([eigenvalue, 0, eigenvalue, 0, 0]).view(1, 5, 1, 1).expand(1, 5, 3, 3)
    torch.testing.assert_close(metric, expected)


def test_the_papers_radius_is_kept_on_images_of_any_contrast():
    layer = MetricConv2d(3, 2, 3)
    metric = layer.metric(torch.randn(1, 3, 8, 8))
    radius = tangent_ball(metric, 'polar', (1, 8)).norm(dim=2)
    torch.testing.assert_close(radius, torch.full_like(radius, 0.8**-0.5), rtol=1e-4, atol=0)


@pytest.mark.parametrize('encoding', sorted(PAPER))
@pytest.mark.parametrize('options', [{}, {'eps_w': 1.0}, {'scale_range': (0.55, 0.7)}, {'scale_range': (2.0, 9.0)}], ids=str)
def test_the_identity_is_the_unit_disk_in_every_encoding(encoding, options):
    if encoding == 'isotropic' and 'scale_range' in options:
        pytest.skip('its eigenvalue stays within scale_range, which has to have 1 inside')
    layer = MetricConv2d(3, 2, 3, encoding=encoding, predictor_init='identity', dtype=torch.float64, **options)
    metric = layer.metric(10 * torch.randn(1, 3, 6, 6, dtype=torch.float64))
    disk = torch.tensor([(1 - 1e-6) ** 2, 0, (1 - 1e-6) ** 2, 0, 0], dtype=torch.float64).view(1, 5, 1, 1)
    torch.testing.assert_close(metric, disk.expand_as(metric), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('encoding', sorted(PAPER))
def test_the_identity_can_be_left(encoding):
    layer = MetricConv2d(3, 2, 3, encoding=encoding, predictor_init='identity')
    optimiser = torch.optim.SGD(layer.predictor.parameters(), lr=1e-3)
    image = torch.randn(2, 3, 8, 8)
    for _ in range(2):  # at the identity the eigenvalues alone feel a gradient, and then the eigenvectors too
        optimiser.zero_grad()
        metric = layer.metric(image)
        (metric * torch.randn_like(metric)).sum().backward()
        optimiser.step()
    metric = layer.metric(image)
    moved = torch.tensor([True, encoding != 'isotropic', True, True, True])
    assert metric.isfinite().all() and torch.equal(metric.std((0, 2, 3)) > 0, moved)


def test_grid_starts_at_the_identity_unless_told_otherwise():
    assert MetricConv2d(3, 2, 3, support='grid').predictor_init == 'identity'
    assert MetricConv2d(3, 2, 3, support='grid', predictor_init='paper').predictor_init == 'paper'
    assert MetricConv2d(3, 2, 3).predictor_init == 'paper'


def test_reset_parameters_starts_again(cls, stir):
    layer = stir(cls(4, 6, 3, modulation=True))
    nn.init.normal_(layer.weight)
    torch.manual_seed(1)
    layer.reset_parameters()
    torch.manual_seed(1)
    fresh = cls(4, 6, 3, modulation=True)
    for name, tensor in fresh.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], tensor, msg=name)


def test_host_initialisers_pass_over_the_predictor(cls):
    model = nn.Sequential(cls(4, 6, 3), nn.Conv2d(6, 6, 3))
    before = [p.clone() for p in model[0].predictor.parameters()]
    for module in model.modules():
        if 'Conv2d' in {base.__name__ for base in type(module).__mro__}:  # by class, as mmengine, timm and torchvision do
            nn.init.kaiming_normal_(module.weight)
    assert all(torch.equal(p, b) for p, b in zip(model[0].predictor.parameters(), before, strict=True))


def test_modulation_starts_at_one(cls):
    modulated, plain = cls(4, 6, 3, modulation=True), cls(4, 6, 3)
    plain.load_state_dict({name: t[: len(plain.state_dict()[name])] for name, t in modulated.state_dict().items()})
    image = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(modulated(image), plain(image), rtol=0, atol=0)

"""The adaptive convolutions of a model, their statistics, and the penalty on their predictors."""

import pytest
import torch
from torch import nn

from metricconv_mm import MetricConv2d, ShiftedConv2d
from metricconv_mm.layers import adaptive_layers, geometry_statistics, predictor_l1, recorded_inputs


def test_the_penalty_is_the_authors():
    """Twelve metric convolutions, the i-th with weights of 0.01 i and biases of -0.02 i: the authors' code gives this number."""
    model = nn.Sequential(*(MetricConv2d(channels, channels, 3) for channels in (2, 4, 8) for _ in range(4)))
    for index, layer in enumerate(adaptive_layers(model).values(), start=1):
        nn.init.constant_(layer.predictor.weight, 0.01 * index)
        nn.init.constant_(layer.predictor.bias, -0.02 * index)
    assert predictor_l1(model).item() == pytest.approx(0.09750000387430191, rel=1e-6)


def test_the_penalty_is_differentiable_and_sees_predictors_alone(cls):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), cls(4, 4, 3, dtype=torch.bfloat16))
    penalty = predictor_l1(model)
    assert penalty.dtype == torch.float32
    penalty.backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {'1.predictor.weight', '1.predictor.bias'}


@pytest.mark.parametrize('function', [adaptive_layers, predictor_l1])
def test_a_model_without_adaptive_convolutions_is_refused(function):
    with pytest.raises(ValueError, match='Sequential has no adaptive convolution: expected some'):
        function(nn.Sequential(nn.Conv2d(1, 1, 3)))


def test_inputs_are_recorded_call_by_call(cls):
    layer = cls(2, 2, 3)
    first, second = torch.randn(2, 1, 2, 5, 5)
    with recorded_inputs({'layer': layer, 'unused': cls(2, 2, 3)}) as inputs:
        layer(first), layer(second)
    layer(first)
    assert set(inputs) == {'layer'} and inputs['layer'][0] is first and inputs['layer'][1] is second and len(inputs['layer']) == 2


def test_statistics_of_a_known_metric():
    layer = MetricConv2d(1, 1, 3, encoding='cholesky', eps_w=0.5, drift='clip_detached', metric_groups=1)
    nn.init.zeros_(layer.predictor.weight)
    with torch.no_grad():  # M = diag(0.25, 4): radii of 2 and 1/2 pixels
        layer.predictor.bias.copy_(torch.tensor([0.49, 0.0, 1.99, 0.0, 0.0]))
    found = geometry_statistics(layer, torch.randn(2, 1, 5, 5))
    assert found == pytest.approx({'asymmetry': 0.0, 'anisotropy': 4.0, 'radius': 1.0}, abs=1e-5)
    with torch.no_grad():
        layer.predictor.bias[3] = 100.0
    assert geometry_statistics(layer, torch.randn(2, 1, 5, 5))['asymmetry'] == pytest.approx(0.5, abs=0.01)


def test_a_needle_among_disks_does_not_decide():
    layer = MetricConv2d(1, 1, 3, encoding='cholesky', eps_w=1.0)
    nn.init.zeros_(layer.predictor.weight)
    with torch.no_grad():
        layer.predictor.bias.copy_(torch.tensor([0.99, 0.0, 0.99, 0.0, 0.0]))
        layer.predictor.weight[0, 0, 1, 1] = 1e4
    image = torch.zeros(1, 1, 5, 5)
    image[..., 2, 2] = 1
    assert geometry_statistics(layer, image)['anisotropy'] == pytest.approx(1.0, abs=1e-4)


def test_displacement_of_a_known_shift():
    layer = ShiftedConv2d(2, 2, 3, dilation=2, parameter_groups=2)
    nn.init.zeros_(layer.predictor.weight)
    with torch.no_grad():
        layer.predictor.bias.copy_(torch.tensor([3.0, 4.0, 0.0, 5.0]))
    assert geometry_statistics(layer, torch.randn(1, 2, 9, 9)) == pytest.approx({'displacement': 5.0})

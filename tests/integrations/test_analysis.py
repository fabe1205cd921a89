"""What mmengine's counters count."""

import pytest
from torch import nn

pytest.importorskip('mmpretrain')
from mmengine.analysis import FlopAnalyzer, get_model_complexity_info

import metricconv_mm.integrations.mm  # noqa: F401
from metricconv_mm import DeformConv2d, MetricConv2d, ShiftedConv2d

pytestmark = pytest.mark.stack
SHAPE, PIXELS = (4, 9, 7), 5 * 4


@pytest.mark.parametrize('cls', [MetricConv2d, ShiftedConv2d, DeformConv2d])
def test_an_adaptive_convolution_is_a_convolution_its_predictor_and_its_samples(cls):
    layer = cls(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    plain = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    predictor = nn.Conv2d(4, layer.predictor.out_channels, 3, stride=2, padding=1)
    layer_info, *others = (get_model_complexity_info(model, SHAPE, show_table=False, show_arch=False) for model in (layer, plain, predictor))
    assert layer_info['params'] == sum(info['params'] for info in others)
    assert layer_info['activations'] == sum(info['activations'] for info in others)
    sampling = 4 * PIXELS * 9 * 4
    assert layer_info['flops'] == sum(info['flops'] for info in others) + sampling


def test_sampling_shows_apart():
    import torch

    by_operator = FlopAnalyzer(MetricConv2d(4, 6, 3, padding=1), (torch.randn(1, 4, 8, 8),)).by_operator()
    assert by_operator['sampling'] == 4 * 64 * 9 * 4
    assert by_operator['conv'] == 64 * 9 * 4 * (6 + 7)

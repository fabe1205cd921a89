"""Fixtures of the layers' tests."""

import pytest
import torch

from metricconv_mm import DeformConv2d, GeodesicConv2d, MetricConv2d, ShiftedConv2d

CLASSES = [MetricConv2d, ShiftedConv2d, DeformConv2d, GeodesicConv2d]


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def cls(request):
    """Every adaptive convolution in turn."""
    return request.param


@pytest.fixture
def stir():
    """A function that draws a layer's predictor at random, so that samples differ from pixel to pixel."""

    def draw(layer, scale=0.3):
        with torch.no_grad():
            for parameter in layer.predictor.parameters():
                parameter.copy_(scale * torch.randn(parameter.shape))
        return layer

    return draw

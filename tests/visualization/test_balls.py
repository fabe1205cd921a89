import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip('matplotlib')
from metricconv_mm import DeformConv2d, MetricConv2d
from metricconv_mm.geometry import randers_norm
from metricconv_mm.visualization import draw_balls, layer_balls


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(MetricConv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), DeformConv2d(4, 4, 3, padding=2, dilation=2))


def test_balls_are_centred_on_the_windows_of_the_layer(model):
    first, second = layer_balls(model, torch.randn(1, 3, 9, 11))
    assert first.centres.shape == (5, 6, 2) and first.samples.shape == (5, 6, 9, 2) and first.input_size == (9, 11)
    # stride 2, and the window of the first pixel is centred on it
    assert first.centres[0, 0].tolist() == [0, 0] and first.centres[2, 3].tolist() == [6, 4]
    # the middle tap of 'onion' is the centre itself
    assert np.allclose(first.samples[:, :, 4], first.centres)
    assert second.outlines is None and second.centres[1, 2].tolist() == [2, 1]


def test_outlines_are_the_unit_circle_of_the_metric(model):
    x = torch.randn(1, 3, 9, 11)
    (balls,) = layer_balls(model, x, ['0'])
    boundary = torch.from_numpy(balls.outlines - balls.centres[:, :, None]).permute(2, 3, 0, 1).float()
    norm = randers_norm(model[0].metric(x), boundary)
    assert torch.allclose(norm, torch.ones_like(norm), atol=1e-4)


def test_drawing_has_a_panel_a_layer_and_leaves_the_mode(model, tmp_path):
    model.train()
    figure = draw_balls(np.zeros((9, 11)), layer_balls(model, torch.randn(1, 3, 9, 11)), title='both')
    assert len(figure.axes) == 2 and model.training
    figure.savefig(tmp_path / 'balls.png')


def test_unknown_layers_are_refused_with_the_known_ones(model):
    with pytest.raises(ValueError, match=r"\['0', '2'\]"):
        layer_balls(model, torch.randn(1, 3, 9, 9), ['0', 'conv'])

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip('matplotlib')
from metricconv_mm import DeformConv2d, MetricConv2d
from metricconv_mm.geometry import METRICS, drift_norm, finsler_norm
from metricconv_mm.visualization import draw_balls, draw_norms, layer_balls


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


@pytest.mark.parametrize('metric', METRICS)
def test_outlines_are_the_unit_circle_of_the_metric(metric):
    x, model = torch.randn(1, 3, 9, 11), nn.Sequential(MetricConv2d(3, 4, 3, stride=2, padding=1, metric=metric, eps_w=0.1))
    nn.init.normal_(model[0].predictor.weight, 0, 0.3)
    (balls,) = layer_balls(model, x, ['0'])
    boundary = torch.from_numpy(balls.outlines - balls.centres[:, :, None]).permute(2, 3, 0, 1).float()
    norm = finsler_norm(model[0].metric(x).unsqueeze(1), boundary, METRICS[metric].norm)
    assert torch.allclose(norm, torch.ones_like(norm), atol=1e-4)


def test_the_balls_of_every_metric_are_drawn_for_the_same_matrix_and_drift():
    matrix, direction = torch.tensor([0.9, 0.35, 0.5]), torch.tensor([0.3, -1.0])
    figure = draw_norms(matrix, direction)
    assert [axes.get_title() for axes in figure.axes] == list(METRICS)
    unit = drift_norm(torch.cat([matrix, direction]).double().view(5, 1, 1))
    for axes, norm in zip(figure.axes[:2], ('randers', 'matsumoto'), strict=True):
        curves = [line for line in axes.lines if not line.get_label().startswith('_')]
        assert len(curves) > 2
        for curve in curves:
            asymmetry = float(curve.get_label())
            metric = torch.cat([matrix, direction * asymmetry / unit.flatten()]).double().view(5, 1, 1)
            boundary = torch.from_numpy(curve.get_xydata())[..., None, None]
            assert torch.allclose(finsler_norm(metric, boundary, norm), torch.ones(1, dtype=torch.float64), atol=1e-6)


def test_drawing_has_a_panel_a_layer_and_leaves_the_mode(model, tmp_path):
    model.train()
    figure = draw_balls(np.zeros((9, 11)), layer_balls(model, torch.randn(1, 3, 9, 11)), title='both')
    assert len(figure.axes) == 2 and model.training
    figure.savefig(tmp_path / 'balls.png')


def test_unknown_layers_are_refused_with_the_known_ones(model):
    with pytest.raises(ValueError, match=r"\['0', '2'\]"):
        layer_balls(model, torch.randn(1, 3, 9, 9), ['0', 'conv'])


def test_a_model_that_has_diverged_is_not_drawn(model):
    with torch.no_grad():
        model[2].predictor.bias[3] = np.nan
    with pytest.raises(ValueError, match='the samples of 2 are not all finite: .* take an earlier checkpoint'):
        draw_balls(np.zeros((9, 11)), layer_balls(model, torch.randn(1, 3, 9, 11)))

import sys

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip('matplotlib')
from metricconv_mm import MetricConv2d
from metricconv_mm.visualization import CamRow, class_activation, draw_cams, target_layer

needs_grad_cam = pytest.mark.skipif('not __import__("importlib.util").util.find_spec("pytorch_grad_cam")', reason='pip install grad-cam')


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer3 = nn.Sequential(MetricConv2d(3, 4, 3, padding=1), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)), nn.Sequential(MetricConv2d(6, 6, 3, padding=1), nn.ReLU()))
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.layer4(self.layer3(x)).mean((2, 3)))


@pytest.fixture
def model():
    return Classifier()


@needs_grad_cam
@pytest.mark.parametrize('name', ['layer3', 'layer4.0', 'layer4.1'])
def test_maps_are_the_formula(model, name):
    image, layer = torch.randn(1, 3, 8, 9), model.get_submodule(name)
    kept = []
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    scores = model(image)
    handle.remove()
    (slope,) = torch.autograd.grad(scores[0, 2], kept[0])
    expected = (slope.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0].relu().detach()
    found = class_activation(model, image, layer, 2)
    assert found.predicted == scores.argmax() and found.map.shape == (8, 9)
    # from 0 to 1, up to a small constant that the library adds to the largest value
    expected = expected - expected.min()
    assert 0.99 < found.map.max() <= 1
    assert np.allclose(found.map / found.map.max(), expected / expected.max(), atol=1e-5)


@needs_grad_cam
def test_the_model_is_left_as_it_was(model):
    model.train()
    model.layer3.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    class_activation(model, torch.randn(1, 3, 8, 8), model.layer3)
    assert model.training and {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


@needs_grad_cam
def test_what_gives_no_map_is_refused(model):
    image = torch.randn(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r'one image.*\(2, 3, 8, 8\)'):
        class_activation(model, image.repeat(2, 1, 1, 1), model.layer3)
    with pytest.raises(ValueError, match=r'\[1, c, h, w\], got Linear with'):
        class_activation(model, image, model.head)
    with pytest.raises(ValueError, match='ReLU with nothing'):
        class_activation(model, image, nn.ReLU())
    with pytest.raises(ValueError, match='class 5 of a model with classes 0 to 4'):
        class_activation(model, image, model.layer3, 5)
    with pytest.raises(ValueError, match='expected a classifier'):
        class_activation(model.layer3, image, model.layer3[1])
    nn.init.constant_(model.head.bias, float('nan'))
    with pytest.raises(ValueError, match='not finite'):
        class_activation(model, image, model.layer3)


def test_without_the_library_it_says_how_to_get_it(model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorch_grad_cam', None)
    with pytest.raises(ImportError, match='pip install'):
        class_activation(model, torch.randn(1, 3, 8, 8), model.layer3)


def test_layers_are_found_by_name_or_by_its_end(model):
    host = nn.Sequential()
    host.add_module('backbone', model)
    assert target_layer(host) == ('backbone.layer4.1', model.layer4[1])
    assert target_layer(host, 'layer3.0') == ('backbone.layer3.0', model.layer3[0])
    assert target_layer(model, 'layer4.0.0') == ('layer4.0.0', model.layer4[0][0])
    with pytest.raises(ValueError, match=r'do you mean .*backbone\.layer3'):
        target_layer(host, 'backbone.layr3')
    with pytest.raises(ValueError, match="no layer 'layer4': name another, such as 0, 0.0"):
        target_layer(nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 1)), nn.ReLU()))
    host.add_module('other', Classifier())
    with pytest.raises(ValueError, match='whole name'):
        target_layer(host, 'layer3')


@needs_grad_cam
def test_a_picture_has_a_row_an_image_and_a_column_a_model(model):
    pictures = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8).numpy()
    inputs = [torch.from_numpy(picture).permute(2, 0, 1)[None].float() for picture in pictures]
    maps = [[class_activation(model, x, target_layer(model)[1], 1)] * 3 for x in inputs]
    figure = draw_cams([CamRow(p, 1, m) for p, m in zip(pictures, maps, strict=True)], ['a', 'b', 'c'], list('vwxyz'))
    assert len(figure.axes) == 8
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == titles[4] == 'w' and titles[1] == 'vwxyz'[maps[0][0].predicted]
    assert [axes.texts[0].get_text() for axes in figure.axes[1:4]] == ['a', 'b', 'c']

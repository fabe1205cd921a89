"""A convolution of one's own, from one class."""

import pytest
import torch
from torch import nn

from metricconv_mm import AdaptiveConv2d, register_convolution, surgery
from metricconv_mm.layers import CONVOLUTIONS, MetricConv2d, names, on_registration

NAME = 'DilatedConvOfTests'


class AdaptiveDilationConv2d(AdaptiveConv2d):
    """nn.Conv2d with a dilation 2 sigmoid(.) of its own at every pixel."""

    def predictor_channels(self):
        return 1

    def samples_from(self, raw):
        return self.grid(raw) * (2 * raw.sigmoid()).unsqueeze(2)

    def initialise_predictor(self, group, start):
        self.predictor.initialise(start, 's' if self.predictor_init == 'paper' else 'z')


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(names, '_listeners', list(names._listeners))
    register_convolution(NAME)(AdaptiveDilationConv2d)
    yield
    del CONVOLUTIONS[NAME]
    try:
        from mmengine.registry import MODELS
    except ImportError:
        return
    for name in (NAME, AdaptiveDilationConv2d.__name__):
        MODELS.module_dict.pop(name, None)


@pytest.mark.parametrize(
    'geometry',
    [{'padding': 1}, {'stride': 2, 'groups': 2}, {'padding': 'same', 'dilation': (1, 2)}, {'padding': 1, 'padding_mode': 'reflect', 'bias': False}],
    ids=str,
)
def test_its_identity_is_a_plain_convolution(geometry):
    plain = nn.Conv2d(4, 6, 3, **geometry).double()
    layer = AdaptiveDilationConv2d(4, 6, 3, predictor_init='identity', dtype=torch.float64, **geometry)
    layer.load_state_dict(plain.state_dict())
    image = torch.randn(2, 4, 8, 9, dtype=torch.float64)
    torch.testing.assert_close(layer(image), plain(image), rtol=1e-10, atol=1e-12)


def test_its_dilation_is_that_of_a_plain_convolution():
    layer = AdaptiveDilationConv2d(4, 6, 3, padding=2, dilation=2, predictor_init='identity', kernel_init='kaiming')
    nn.init.constant_(layer.predictor.bias, -torch.tensor(3.0).log().item())  # 2 sigmoid(-log 3) = 1 / 2: taps one pixel apart
    image = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(layer(image), nn.functional.conv2d(image, layer.weight, layer.bias, padding=1), rtol=1e-4, atol=1e-5)


def test_it_trains():
    layer = AdaptiveDilationConv2d(4, 6, 3, padding=1, parameter_groups=2, modulation=True)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    layer(torch.randn(2, 4, 8, 8)).square().mean().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert not any(torch.equal(p, before[name]) for name, p in layer.named_parameters())


@pytest.mark.parametrize('conv', [NAME, AdaptiveDilationConv2d.__name__, AdaptiveDilationConv2d], ids=str)
def test_surgery_knows_it(conv):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    image = torch.randn(1, 3, 8, 8)
    expected = model(image)
    surgery.convert(model, conv)
    assert [type(m) for m in model] == [AdaptiveDilationConv2d, nn.ReLU, nn.Conv2d]
    torch.testing.assert_close(model(image), expected)


def test_configs_know_it():
    mmcv = pytest.importorskip('mmcv.cnn')
    layer = mmcv.build_conv_layer({'type': NAME, 'modulation': True}, 4, 6, 3, padding=1)
    assert type(layer) is AdaptiveDilationConv2d and layer.modulation and layer.padding == (1, 1)
    module = mmcv.ConvModule(4, 6, 3, conv_cfg={'type': NAME}, norm_cfg={'type': 'BN'})
    assert type(module.conv) is AdaptiveDilationConv2d and module(torch.randn(2, 4, 8, 8)).shape == (2, 6, 6, 6)


def test_listeners_hear_of_it_early_or_late():
    heard = []
    on_registration(lambda name, cls: heard.append((name, cls)))
    assert (NAME, AdaptiveDilationConv2d) in heard and ('MetricConv', MetricConv2d) in heard
    heard.clear()
    register_convolution(NAME)(AdaptiveDilationConv2d)  # again, as on a reload
    assert heard == [(NAME, AdaptiveDilationConv2d)]


def test_names_are_taken_once():
    with pytest.raises(KeyError, match=f"'{NAME}' is already AdaptiveDilationConv2d: choose another name"):
        register_convolution(NAME)(MetricConv2d)
    assert CONVOLUTIONS[NAME] is AdaptiveDilationConv2d

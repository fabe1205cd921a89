import pytest
import torch

timm = pytest.importorskip('timm')
import metricconv_mm.integrations.timm  # noqa: E402, F401
from metricconv_mm import AdaptiveConv2d, DeformConv2d, MetricConv2d  # noqa: E402

NAMES = [f'{method}_resnet{depth}' for method in ('metric', 'shifted', 'deform', 'geodesic') for depth in (18, 34, 50, 101, 152)]


def adaptive(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptiveConv2d)}


@pytest.mark.parametrize('name', NAMES)
def test_entrypoint_is_listed_and_builds(name):
    assert name in timm.list_models(f'{name.split("_")[0]}_*')
    with torch.device('meta'):
        model = timm.create_model(name, num_classes=7)
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    layers = adaptive(model)
    assert layers and all(key.startswith(('layer2', 'layer3', 'layer4')) for key in layers)
    assert {layer.kernel_size for layer in layers.values()} == {(3, 3)}


def test_layers_and_options_are_arguments():
    model = timm.create_model('metric_resnet18', layers='layer4', conv_cfg=dict(eps_w=1.0))
    layers = adaptive(model)
    assert len(layers) == 4 and all(layer.limits.eps_w == 1 for layer in layers.values())


def test_features_only_gives_the_features_of_the_stages():
    model = timm.create_model('deform_resnet18', features_only=True, out_indices=(2, 3))
    assert [tuple(f.shape[1:]) for f in model(torch.randn(1, 3, 64, 64))] == [(128, 8, 8), (256, 4, 4)]
    assert any(isinstance(module, DeformConv2d) for module in model.modules())


def test_a_plain_checkpoint_gives_the_plain_predictions(tmp_path):
    torch.manual_seed(0)
    plain = timm.create_model('resnet18', num_classes=5).eval()
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    model = timm.create_model('metric_resnet18', num_classes=5, checkpoint_path=str(tmp_path / 'plain.pth'), conv_cfg=dict(support='grid')).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert (model(x) - plain(x)).abs().max() < 1e-5


def test_pretrained_weights_are_kept_through_the_conversion(tmp_path):
    torch.manual_seed(0)
    plain = timm.create_model('resnet18').eval()
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    model = timm.create_model('metric_resnet18', pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / 'plain.pth'))).eval()
    assert all(layer.support == 'grid' for layer in adaptive(model).values())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert (model(x) - plain(x)).abs().max() < 1e-5


def test_mmpretrain_can_use_it_as_a_backbone():
    pytest.importorskip('mmpretrain')
    from mmengine.registry import MODELS

    model = MODELS.build(dict(type='TIMMBackbone', model_name='metric_resnet18', features_only=True, out_indices=(4,), _scope_='mmpretrain'))
    before = {key: value.clone() for key, value in model.state_dict().items() if 'predictor' in key}
    model.init_weights()
    assert len(before) == 24 and all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert model(torch.randn(1, 3, 64, 64))[0].shape == (1, 512, 2, 2)
    assert any(isinstance(module, MetricConv2d) for module in model.modules())

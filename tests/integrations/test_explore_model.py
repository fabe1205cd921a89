"""A trained model on the page of metricconv_mm.explore."""

import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('matplotlib')
from metricconv_mm.explore.controls import Controls
from metricconv_mm.explore.model import Trained
from metricconv_mm.explore.pictures import shapes
from metricconv_mm.explore.workshop import Workshop


def saved(config, path):
    from mmengine.config import Config

    from metricconv_mm.integrations.upgrade import build

    model = build(Config.fromfile(config))
    torch.save({'state_dict': model.state_dict()}, path)
    return model


@pytest.fixture(scope='module')
def trained(tiny_config, tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'model.pth'
    saved(tiny_config, path)
    return Trained(str(tiny_config), str(path))


@pytest.mark.stack
def test_layers_predict_the_metric(trained):
    workshop = Workshop(shapes(48), trained)
    sizes = {}
    for layer in list(trained.layers)[:3]:
        controls = Controls('layer', layer=layer, geodesic=False)
        scene, balls = workshop.balls(workshop.first, 48, (10.5 / 48, 30.5 / 48), controls)
        assert torch.allclose(scene.seen, workshop.picture(workshop.first).image, atol=1 / 255)
        field, inside = scene.field, balls.centre
        assert max(abs(inside[0] - 10) / field.pitch[0], abs(inside[1] - 30) / field.pitch[1]) <= 0.5 + 1e-6
        sizes[layer] = workshop.filtered(workshop.first, 48, controls).image.shape[1:]
        assert sizes[layer] == field.metric.shape[2:]
        # the metric is what the layer makes of the feature map that it gets from this picture
        inputs = trained._inputs(scene.seen)[0]
        seen = []
        handle = trained.layers[layer].register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            trained.model(inputs)
            expected = trained.layers[layer].metric(seen[0])
        handle.remove()
        assert torch.allclose(field.metric, expected[:, :5], atol=1e-6)


def test_grey_pictures_and_unknown_layers(trained):
    grey = torch.rand(1, 20, 24)
    field, seen = trained.field(next(iter(trained.layers)), grey)
    assert seen.shape == (3, 20, 24) and torch.isfinite(field.metric).all()
    with pytest.raises(ValueError, match='expected a layer among'):
        trained.field('layer9', grey)


def test_what_does_not_fit_together_is_said(tiny_config, tmp_path):
    with pytest.raises(SystemExit, match='no checkpoint'):
        Trained(str(tiny_config), str(tmp_path / 'none.pth'))
    plain = tmp_path / 'plain.py'
    plain.write_text(f"_base_ = '{tiny_config}'\nmodel = dict(backbone=dict(adaptive_cfg=dict(_delete_=True, type='ShiftedConv')))\n")
    saved(plain, tmp_path / 'plain.pth')
    with pytest.raises(ValueError, match='no metric convolution'):
        Trained(str(plain), str(tmp_path / 'plain.pth'))


def test_a_denoiser_sees_grey_levels(tmp_path):
    config = tmp_path / 'denoiser.py'
    conv = "dict(type='MetricConv', encoding='cholesky', drift='sigmoid', support='polar', eps_w=0.1)"
    config.write_text(
        "custom_imports = dict(imports=['metricconv_mm.integrations.mm'])\ndefault_scope = 'mmengine'\n"
        f"model = dict(type='OneLayerDenoiser', kernel_size=3, conv={conv})\n"
    )
    saved(config, tmp_path / 'denoiser.pth')
    trained = Trained(str(config), str(tmp_path / 'denoiser.pth'))
    image = torch.rand(3, 12, 10)
    field, seen = trained.field(next(iter(trained.layers)), image)
    assert torch.equal(seen, image.mean(0, keepdim=True)) and field.metric.shape == (1, 5, 12, 10) and field.support == 'polar'

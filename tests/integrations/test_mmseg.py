"""mmseg's FCN with metric convolutions; it needs no compiled mmcv operators."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

if find_spec('mmseg') is None:
    pytest.skip('mmseg is not installed: make test-segmentation installs it into an environment of its own', allow_module_level=True)

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper

from metricconv_mm import MetricConv2d
from metricconv_mm.integrations import upgrade

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/segmentation'
DCN, CONVERTED = (
    CONFIGS / f'fcn_r50-d8{name}.py' for name in ('-metric-c4-c5_4xb4-20k_voc12aug-512x512', '_4xb4-20k_voc12aug-512x512_metric-finetune')
)
SIZE = (64, 72)


def config(path):
    cfg = Config.fromfile(path)
    segmenter = cfg.model.get('model', cfg.model)
    segmenter.pretrained = None  # no download
    segmenter.data_preprocessor.size = SIZE
    return cfg


def build(cfg):
    # synchronised statistics need a GPU
    return revert_sync_batchnorm(upgrade.build(cfg)).eval()


def batch():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 21, (1, *SIZE)))
        samples.append(sample)
    return {'inputs': [torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8) for _ in samples], 'data_samples': samples}


@pytest.mark.parametrize(('path', 'count'), [(DCN, 9), (CONVERTED, 5)], ids=['dcn', 'ConvertConvs'])
def test_a_segmenter_trains_a_step_and_predicts(path, count):
    cfg = config(path)
    model = build(cfg)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, MetricConv2d)}
    assert len(layers) == count and {layer.kernel_size for layer in layers.values()} == {(3, 3)}
    assert max(layer.dilation[0] for layer in layers.values()) == 4
    before = {name: layer.predictor.weight.clone() for name, layer in layers.items()}
    model.init_weights()
    assert all(torch.equal(layer.predictor.weight, before[name]) for name, layer in layers.items())
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert {group['lr'] / cfg.optim_wrapper.optimizer.lr for group in wrapper.optimizer.param_groups} == {1.0, 0.1}
    losses = model.train().train_step(batch(), wrapper)
    assert losses['loss'].isfinite()
    assert all(not torch.equal(layer.predictor.weight, before[name]) for name, layer in layers.items())
    first, _ = model.eval().test_step(batch())
    assert first.pred_sem_seg.data.shape == (1, *SIZE) and first.seg_logits.data.isfinite().all()


def test_an_upgraded_segmenter_computes_what_it_computed():
    cfg = config(CONVERTED)
    plain = Config({**cfg.to_dict(), 'model': cfg.model.model.to_dict()})
    torch.manual_seed(0)
    old = build(plain)
    old.init_weights()
    conversion = {key: value for key, value in cfg.model.items() if key not in ('type', 'model')}
    new = build(upgrade.upgraded_config(plain, conversion, 'any.pth'))
    image = batch()['inputs'][0]
    assert upgrade.take_over(old, new, lambda model: upgrade.mm_outputs(model, image)) <= upgrade.TOLERANCE


def test_a_plain_checkpoint_loads_into_the_dcn_variant():
    cfg = config(DCN)
    plain = Config(cfg.to_dict())
    plain.model.backbone.pop('dcn')
    plain.model.backbone.pop('stage_with_dcn')
    image = batch()['inputs'][0]
    assert upgrade.take_over(build(plain), build(cfg), lambda model: upgrade.mm_outputs(model, image)) <= upgrade.TOLERANCE


def test_conv_cfg_reaches_the_head():
    cfg = config(DCN)
    cfg.model.decode_head.conv_cfg = dict(type='MetricConv', support='grid')
    names = [name for name, layer in build(cfg).named_modules() if isinstance(layer, MetricConv2d) and name.startswith('decode_head')]
    assert names == ['decode_head.convs.0.conv', 'decode_head.convs.1.conv', 'decode_head.conv_cat.conv']

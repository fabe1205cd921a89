"""mmdet's Faster R-CNN with metric convolutions, with compiled mmcv operators or, where there are none, with torchvision's."""

import copy
import sys
import types
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

if find_spec('mmdet') is None:
    pytest.skip('mmdet is not installed: make test-detection installs it into an environment of its own', allow_module_level=True)

from metricconv_mm import MetricConv2d
from metricconv_mm.integrations import upgrade

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/detection'
DCN, CONVERTED = CONFIGS / 'faster-rcnn_r50-metric-c3-c5_fpn_1x_coco.py', CONFIGS / 'faster-rcnn_r50_fpn_1x_coco_metric-finetune.py'


def stand_in():
    """mmcv's extension with torchvision's suppression in place of its own, and nothing else."""
    import torchvision

    def missing(name):
        def operator(*args, **kwargs):
            raise NotImplementedError(f'mmcv._ext.{name} is not compiled')

        if name.startswith('__'):
            raise AttributeError(name)
        return operator

    module = types.ModuleType('mmcv._ext')
    module.__spec__ = ModuleSpec('mmcv._ext', None)
    module.__getattr__ = missing
    module.nms = lambda boxes, scores, iou_threshold, offset: torchvision.ops.nms(boxes, scores, iou_threshold)
    return module


@pytest.fixture(scope='module', autouse=True)
def operators():
    if find_spec('mmcv._ext') is not None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, 'mmcv._ext', stand_in())
        yield


def config(path):
    from mmengine.config import Config

    cfg = Config.fromfile(path)
    detector = cfg.model.get('model', cfg.model)
    detector.roi_head.bbox_roi_extractor.roi_layer.use_torchvision = True
    detector.test_cfg.rcnn.score_thr = 0.0
    if detector.backbone.get('init_cfg'):
        detector.backbone.init_cfg = None  # no download
    return cfg


def batch(size=96):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0), batch_input_shape=(size, size)))
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[10.0, 12.0, 70.0, 80.0]]), labels=torch.tensor([3]))
    return {'inputs': [torch.randint(0, 256, (3, size, size), dtype=torch.uint8)], 'data_samples': [sample]}


@pytest.mark.parametrize(('path', 'count'), [(DCN, 13), (CONVERTED, 13)], ids=['dcn', 'ConvertConvs'])
def test_a_detector_trains_a_step_and_predicts(path, count):
    from mmengine.optim import build_optim_wrapper

    cfg = config(path)
    model = upgrade.build(cfg)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, MetricConv2d)}
    assert len(layers) == count and {layer.kernel_size for layer in layers.values()} == {(3, 3)}
    before = {name: layer.predictor.weight.clone() for name, layer in layers.items()}
    model.init_weights()
    assert all(torch.equal(layer.predictor.weight, before[name]) for name, layer in layers.items())
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {group['lr'] / cfg.optim_wrapper.optimizer.lr for group in optimizer.param_groups}
    assert rates == {1.0, 0.1}
    losses = model.train().train_step(batch(), optimizer)
    assert losses['loss'].isfinite()
    assert any(not torch.equal(layer.predictor.weight, before[name]) for name, layer in layers.items())
    (found,) = model.eval().test_step(batch())
    assert len(found.pred_instances) and found.pred_instances.bboxes.isfinite().all()


def test_an_upgraded_detector_finds_what_it_found():
    from mmengine.config import Config

    cfg = config(CONVERTED)
    plain = Config({**cfg.to_dict(), 'model': cfg.model.model.to_dict()})
    torch.manual_seed(0)
    old = upgrade.build(plain)
    old.init_weights()
    conversion = {key: value for key, value in cfg.model.items() if key not in ('type', 'model')}
    new = upgrade.build(upgrade.upgraded_config(plain, conversion, 'any.pth'))
    data = batch()
    assert upgrade.take_over(old, new, lambda model: upgrade.mm_outputs(model, data['inputs'][0])) <= 1e-4
    with torch.no_grad():
        (before,), (after,) = (model.test_step(copy.deepcopy(data)) for model in (old, new))
    assert upgrade.difference(before.pred_instances.scores.sort()[0], after.pred_instances.scores.sort()[0]) < 1e-4


def test_a_plain_backbone_checkpoint_loads_into_the_dcn_variant():
    from mmengine.config import Config

    cfg = config(DCN)
    plain_cfg = Config(copy.deepcopy(cfg.to_dict()))
    plain_cfg.model.backbone.pop('dcn')
    plain_cfg.model.backbone.pop('stage_with_dcn')
    old, new = upgrade.build(plain_cfg), upgrade.build(cfg)
    image = batch()['inputs'][0]
    assert upgrade.take_over(old, new, lambda model: upgrade.mm_outputs(model, image)) <= 1e-4

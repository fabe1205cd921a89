import copy
import re

import pytest
import torch
from torch import nn

from metricconv_mm import AdaptiveConv2d, transfer
from metricconv_mm.surgery import convert
from metricconv_mm.transfer import load_pretrained, read_checkpoint, weights_of

torchvision = pytest.importorskip('torchvision')


def resnet(classes=10, **kwargs):
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=classes, **kwargs).eval()


@pytest.fixture(scope='module')
def plain():
    return resnet()


def mmpretrain_names(state):
    return {f'head.{name}' if name.startswith('fc.') else f'backbone.{name}': tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    'rename', [dict, mmpretrain_names, lambda state: {f'module.{n}': t for n, t in state.items()}], ids=['torchvision', 'mmpretrain', 'parallel']
)  # fmt: skip
def test_names_of_all_libraries_are_understood(plain, rename):
    model = convert(resnet(), 'MetricConv', 'layer[2-4]', support='grid')
    report = load_pretrained(model, rename(plain.state_dict()))
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-4)
    assert len(report.loaded) == len(plain.state_dict()) and not report.dropped
    assert set(report.initialised.values()) == {'new in this model'} and len(report.initialised) == 2 * 6
    assert str(report).startswith('loaded 74 tensors\nnewly initialised 12 (new in this model): layer2.0.conv1.predictor.weight')


def test_a_converted_checkpoint_loads_whole():
    model, other = (convert(resnet(), 'DeformConv', 'layer4') for _ in range(2))
    report = load_pretrained(other, {'state_dict': model.state_dict(), 'meta': {}})
    assert not report.initialised and not report.dropped
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_classifier_of_other_classes_is_dropped_and_said(plain):
    model = resnet(classes=3)
    before = model.fc.weight.clone()
    report = load_pretrained(model, plain.state_dict())
    assert report.dropped == dict.fromkeys(['fc.weight', 'fc.bias'], '10 classes there, 3 here')
    assert report.initialised == report.dropped and torch.equal(model.fc.weight, before)
    assert torch.equal(model.conv1.weight, plain.conv1.weight)


def test_kernels_of_adaptive_layers_can_stay_behind(plain):
    model = convert(resnet(), 'MetricConv', 'layer4', keep_weights=False)
    before = model.layer4[0].conv1.weight.clone()
    report = load_pretrained(model, plain.state_dict(), keep_kernels=False)
    assert list(report.dropped) == ['layer4.0.conv1.weight', 'layer4.0.conv2.weight'] and torch.equal(model.layer4[0].conv1.weight, before)
    fixed = convert(resnet(), 'MetricConv', 'layer4', fixed_kernel=True)
    assert set(load_pretrained(fixed, plain.state_dict()).dropped.values()) == {'the kernel is fixed'}


def test_a_part_of_a_detector(plain):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Module()
            self.backbone.body = resnet()
            del self.backbone.body.fc
            self.rpn = nn.Conv2d(8, 8, 3)

    model = Detector()
    report = load_pretrained(model, mmpretrain_names(plain.state_dict()), part='backbone')
    assert torch.equal(model.backbone.body.conv1.weight, plain.conv1.weight)
    assert report.dropped == dict.fromkeys(['head.fc.weight', 'head.fc.bias'], 'no classifier here')
    assert report.initialised == dict.fromkeys(['rpn.weight', 'rpn.bias'], 'outside backbone') and 'backbone.body.conv1.weight' in report.loaded
    with pytest.raises(ValueError, match=r"2 missing in it: rpn.weight, rpn.bias\nGive .*part='backbone'"):
        load_pretrained(model, plain.state_dict())
    assert 'to be dropped' in load_pretrained(model, plain.state_dict(), drop='rpn').initialised.values()
    with pytest.raises(ValueError, match="no part='neck': its parts are backbone, rpn"):
        load_pretrained(model, plain.state_dict(), part='neck')


def test_weights_of_another_network_are_refused_and_nothing_changes(plain):
    deeper = torchvision.models.resnet18(num_classes=10).state_dict()
    model = copy.deepcopy(plain)
    with pytest.raises(
        ValueError, match=re.escape('the state_dict holds the weights of another network:\n  48 unknown to the model: layer1.1.conv1')
    ):
        load_pretrained(model, deeper)
    with pytest.raises(ValueError, match=r'of another shape: layer1.0.conv1.weight \(64, 64, 3, 3\) here, \(64, 64, 1, 1\) there'):
        load_pretrained(model, torchvision.models.resnet50().state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True))


class Log:
    """Like mmengine's HistoryBuffer: an object of a class that torch.load refuses."""

    ran = False

    def __init__(self):
        self.values = [1.0]

    def __setstate__(self, state):
        type(self).ran = True


def test_objects_beside_the_weights_do_not_hinder_and_do_not_run(plain, tmp_path):
    import numpy as np

    torch.save({'state_dict': plain.state_dict(), 'message_hub': {'log': Log(), 'n': np.float64(1), 'a': np.ones(3)}}, tmp_path / 'epoch_1.pth')
    assert load_pretrained(resnet(), tmp_path / 'epoch_1.pth').loaded
    assert not Log.ran


def test_files_that_cannot_be_read_are_explained(plain, tmp_path):
    torch.save(plain.state_dict(), tmp_path / 'whole.pth')
    content = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'short.pth').write_bytes(content[: len(content) // 2])
    (tmp_path / 'empty.pth').write_bytes(b'')
    (tmp_path / 'text.pth').write_text('weights')
    torch.save(plain, tmp_path / 'module.pth')
    torch.save({'epoch': 3}, tmp_path / 'none.pth')
    for name in ('short', 'empty', 'text'):
        with pytest.raises(ValueError, match=f'{name}.pth is no checkpoint that torch can read, perhaps cut short .*: copy it again'):
            read_checkpoint(tmp_path / f'{name}.pth')
    with pytest.raises(FileNotFoundError, match='no checkpoint'):
        read_checkpoint(tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='holds no state_dict but entries epoch'):
        weights_of(read_checkpoint(tmp_path / 'none.pth'), 'none.pth')
    with pytest.raises(ValueError, match=r'holds no state_dict but a ResNet: save model.state_dict\(\)'):
        load_pretrained(resnet(), tmp_path / 'module.pth')


def test_safetensors_of_timm(plain, tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    safetensors.save_file(plain.state_dict(), tmp_path / 'model.safetensors')
    assert len(load_pretrained(resnet(), tmp_path / 'model.safetensors').loaded) == 74


def test_batch_counters_of_old_checkpoints_may_be_missing(plain):
    old = {name: tensor for name, tensor in plain.state_dict().items() if 'num_batches' not in name}
    assert load_pretrained(resnet(), old).loaded == list(old)


def test_every_adaptive_layer_is_reported_under_its_name(plain):
    model = convert(resnet(), 'ShiftedConv')
    report = load_pretrained(model, plain.state_dict())
    layers = {name for name, layer in model.named_modules() if isinstance(layer, AdaptiveConv2d)}
    assert {name.rsplit('.predictor.', 1)[0] for name in report.initialised} == layers
    assert isinstance(report, transfer.Transfer)

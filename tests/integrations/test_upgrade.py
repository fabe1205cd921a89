"""tools/upgrade_model.py as a user runs it, and what it is made of."""

import math
import re
import runpy

import pytest
import torch

from metricconv_mm import MetricConv2d
from metricconv_mm.integrations.upgrade import difference

pytestmark = pytest.mark.stack
MODEL = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=4, mean=[127.5] * 3, std=[64.0] * 3, to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth={depth}, base_channels=8, stem_channels=8,
        init_cfg=dict(type='Pretrained', checkpoint='https://example.invalid/resnet.pth', prefix='backbone')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=4, in_channels={channels}, loss=dict(type='CrossEntropyLoss'), topk=(1,)))
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Configs of two depths, and a checkpoint of the shallow one as mmengine writes them."""
    pytest.importorskip('mmpretrain')
    from mmengine.config import Config
    from mmengine.logging import HistoryBuffer

    from metricconv_mm.integrations import upgrade

    folder = tmp_path_factory.mktemp('trained')
    for depth, channels in ((18, 64), (50, 256)):
        (folder / f'resnet{depth}.py').write_text(MODEL.format(depth=depth, channels=channels))
    model = upgrade.build(Config.fromfile(folder / 'resnet18.py'))
    meta = {'dataset_meta': {'classes': ['a', 'b', 'c', 'd']}, 'seed': 3}
    torch.save({'state_dict': model.state_dict(), 'meta': meta, 'message_hub': {'loss': HistoryBuffer()}}, folder / 'epoch_1.pth')
    return folder


def test_config_and_checkpoint_in_config_and_checkpoint_out(trained, run_tool, tool, tmp_path):
    output = run_tool(
        'tools/upgrade_model.py', trained / 'resnet18.py', trained / 'epoch_1.pth', '--layers', 'layer[2-4]', '--kernel-sizes', 3,
        '--conv-options', 'eps_w=0.9', '--size', 64, 80, '--out', tmp_path,
    )  # fmt: skip
    assert 'loaded 122 tensors' in output and '12 convolutions are now MetricConv2d' in output
    assert float(re.search(r'differ by at most (\S+) of', output)[1]) <= 1e-4
    from mmengine.config import Config

    from metricconv_mm.integrations import upgrade

    cfg = Config.fromfile(tmp_path / 'resnet18_metricconv.py')
    model = upgrade.build(cfg)
    checkpoint = torch.load(cfg.load_from, weights_only=True)
    model.load_state_dict(checkpoint['state_dict'])
    assert checkpoint['meta']['dataset_meta']['classes'] == ['a', 'b', 'c', 'd']
    layers = [layer for layer in model.modules() if isinstance(layer, MetricConv2d)]
    assert len(layers) == 12 and all(layer.limits.eps_w == 0.9 and layer.support == 'grid' for layer in layers)
    # training begins with init_weights, which has nothing to download, and leaves the predictors alone
    assert 'Pretrained' not in cfg.pretty_text
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if 'predictor' in name}
    model.init_weights()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    # a second run finds nothing to convert in what it wrote, and says so
    again = tool(tmp_path / 'resnet18_metricconv.py', cfg.load_from, '--layers', 'layer[2-4]', '--out', tmp_path / '2')
    assert 'differ by at most 0.0e+00' in again


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['resnet50.py', 'epoch_1.pth'], 'holds the weights of another network'),
        (['resnet34.py', 'epoch_1.pth'], 'no config'),
        (['resnet18.py', 'epoch_2.pth'], 'no checkpoint'),
        (['resnet18.py', 'short.pth'], 'perhaps cut short'),
        (['resnet18.py', 'epoch_1.pth', '--support', 'onion'], "starts losslessly with support='grid' alone"),
        (['resnet18.py', 'epoch_1.pth', '--layers', 'stage1'], "no nn.Conv2d matches 'stage1'"),
        (['resnet18.py', 'epoch_1.pth', '--conv', 'GaussConv'], 'choose one of'),
        (['resnet18.py', 'epoch_1.pth', '--conv-options', 'radius=2'], 'has no option radius'),
        (['resnet18.py', 'epoch_1.pth', '--conv-options', 'radius'], 'expected KEY=VALUE'),
        (['resnet18.py', 'three.pth'], 'another number of classes'),
        (['resnet18.py'], 'the checkpoint is missing'),
    ],
    ids=lambda value: ' '.join(value[:4]) if isinstance(value, list) else '',
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(trained, tool, tmp_path, arguments, message):
    content = (trained / 'epoch_1.pth').read_bytes()
    (trained / 'short.pth').write_bytes(content[: len(content) // 2])
    state = torch.load(trained / 'epoch_1.pth', weights_only=False)['state_dict']
    torch.save({**state, 'head.fc.weight': torch.zeros(3, 64), 'head.fc.bias': torch.zeros(3)}, trained / 'three.pth')
    arguments = [trained / a if str(a).endswith(('.py', '.pth')) else a for a in arguments]
    assert message in tool(*arguments, '--size', 32, '--out', tmp_path / 'out', fails=True)
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def tool(monkeypatch, capsys):
    """The tool in this process, which spares its imports."""

    def run(*arguments, fails=False):
        monkeypatch.setattr('sys.argv', ['tools/upgrade_model.py', *map(str, arguments)])
        status = None
        try:
            runpy.run_path('tools/upgrade_model.py', run_name='__main__')
        except SystemExit as error:
            status = error.code
        printed = capsys.readouterr()
        assert bool(status) == fails, status
        return f'{printed.out}{printed.err}{status}'

    return run


@pytest.mark.parametrize('conv', ['MetricConv', 'ShiftedConv'])
def test_timm_models_come_as_a_python_file(tool, tmp_path, conv):
    timm = pytest.importorskip('timm')
    model = timm.create_model('tf_mobilenetv3_small_075', num_classes=5).eval()
    torch.save(model.state_dict(), tmp_path / 'mine.pth')
    options = ['--timm', 'tf_mobilenetv3_small_075', '--checkpoint', tmp_path / 'mine.pth', '--conv', conv, '--size', 64, '--out', tmp_path]
    assert 'another number of classes' in tool(*options, fails=True)
    output = tool(*options, '--classes', 5)
    assert 'differ by at most' in output
    upgraded = runpy.run_path(str(tmp_path / f'tf_mobilenetv3_small_075_{conv.lower()}.py'))['build']().eval()
    x = torch.randn(1, 3, 65, 64)
    with torch.no_grad():
        assert difference(model(x), upgraded(x)) < 1e-4
    assert 'timm has no model' in tool('--timm', 'resnet17', fails=True)


def test_weights_of_torchvision_upgrade_a_config(tool, trained, tmp_path):
    torchvision = pytest.importorskip('torchvision')
    config = MODEL.format(depth=18, channels=512).replace('base_channels=8, stem_channels=8,', '').replace('num_classes=4', 'num_classes=1000')
    (tmp_path / 'resnet18.py').write_text(config)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / 'resnet18-f37072fd.pth')
    image = tmp_path / 'noise.png'
    torchvision.io.write_png(torch.randint(0, 256, (3, 40, 30), dtype=torch.uint8), str(image))
    arguments = [tmp_path / 'resnet18.py', tmp_path / 'resnet18-f37072fd.pth', '--conv', 'DeformConv', '--layers', 'layer4']
    output = tool(*arguments, '--image', image, '--size', 64, '--out', tmp_path)
    assert 'loaded 122 tensors' in output and (tmp_path / 'resnet18_deformconv.pth').is_file()
    assert 'cannot be read' in tool(*arguments, '--image', tmp_path / 'none.png', fails=True)


def test_outputs_are_compared_wherever_they_are():
    one = {'a': [torch.tensor([1.0, 10.0])], 'b': (torch.zeros(0), None)}
    other = {'a': [torch.tensor([1.5, 10.0])], 'b': (torch.zeros(0), None)}
    assert difference(one, one) == 0 and difference(one, other) == pytest.approx(0.05)
    for unlike in ({}, {'a': [torch.zeros(3)]}, {'a': [torch.tensor([math.nan, 10.0])], 'b': (torch.zeros(0),)}):
        assert difference(one, unlike) == math.inf


def test_the_hook_loads_before_training_and_not_after_a_resume(trained, tmp_path):
    pytest.importorskip('mmpretrain')
    from mmengine.config import Config
    from mmengine.logging import MMLogger
    from mmengine.registry import HOOKS

    import metricconv_mm.integrations.mm  # noqa: F401
    from metricconv_mm.integrations import upgrade

    cfg = Config.fromfile(trained / 'resnet18.py')
    cfg.model = dict(type='ConvertConvs', conv='ShiftedConv', layers='layer4', model=cfg.model)
    cfg.model.model.head.num_classes = 7

    class Runner:
        model, iter, logger = upgrade.build(cfg), 0, MMLogger.get_instance('hook', log_file=str(tmp_path / 'log'))

    weights = torch.load(trained / 'epoch_1.pth', weights_only=False)['state_dict']['backbone.conv1.weight']
    # the checkpoint may come of the same seed
    torch.nn.init.zeros_(Runner.model.backbone.conv1.weight)
    hook = HOOKS.build(dict(type='PretrainedWeights', checkpoint=str(trained / 'epoch_1.pth')))
    Runner.iter = 5
    hook.before_train(Runner)
    assert not torch.equal(Runner.model.backbone.conv1.weight, weights)
    Runner.iter = 0
    hook.before_train(Runner)
    assert torch.equal(Runner.model.backbone.conv1.weight, weights)
    log = (tmp_path / 'log').read_text()
    assert 'dropped 2 (4 classes there, 7 here): head.fc.weight, head.fc.bias' in log and 'goes on with its own weights' in log

"""The tools as a user runs them; also on the other OpenMMLab stack."""

import json
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.stack


@pytest.fixture(scope='module')
def trained(run_tool, tiny_config, tmp_path_factory):
    work = tmp_path_factory.mktemp('work')
    output = run_tool('tools/train.py', tiny_config, '--work-dir', work)
    return work, output


def test_training_logs_progress_loss_and_accuracy(trained):
    work, output = trained
    assert re.search(r'Epoch\(train\)\s+\[1\]\[4/4\].*eta: .*loss: \d', output)
    assert 'accuracy/top1' in output
    assert (work / 'epoch_1.pth').is_file()
    assert list(work.glob('*/vis_data/events.out.tfevents.*')), 'no TensorBoard log'


def test_resume_goes_on_where_training_stopped(trained, run_tool, tiny_config):
    work, _ = trained
    output = run_tool('tools/train.py', tiny_config, '--work-dir', work, '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert 'Epoch(train) [2][4/4]' in output.replace('  ', ' ')
    assert not re.search(r'Epoch\(train\)\s+\[1\]', output), 'the first epoch was trained again'
    assert (work / 'epoch_2.pth').is_file()


def test_resuming_passes_over_a_checkpoint_cut_short(trained, run_tool, tiny_config, tmp_path):
    work, _ = trained
    whole, cut = tmp_path / 'epoch_1.pth', tmp_path / 'epoch_2.pth'
    shutil.copy(work / 'epoch_1.pth', whole)
    cut.write_bytes(whole.read_bytes()[:5000])
    (tmp_path / 'last_checkpoint').write_text(str(cut))
    output = run_tool('tools/train.py', tiny_config, '--work-dir', tmp_path, '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert f'{cut} is passed over: it cannot be read' in output and f'goes on from {whole}' in output
    assert 'Epoch(train) [2][4/4]' in output.replace('  ', ' ')
    assert whole.is_file() and cut.stat().st_size > 5000, 'the last two checkpoints are kept'


def test_evaluation_of_a_checkpoint_gives_the_accuracy_of_training(trained, run_tool, tiny_config, tmp_path):
    work, _output = trained
    best = next(work.glob('best_accuracy_top1_epoch_*.pth'))
    run_tool('tools/test.py', tiny_config, best, '--work-dir', tmp_path, '--out', tmp_path / 'metrics.json', '--out-item', 'metrics')
    measured = json.loads((tmp_path / 'metrics.json').read_text())['accuracy/top1']
    scalars = [json.loads(line) for log in work.glob('*/vis_data/scalars.json') for line in log.read_text().splitlines()]
    assert measured == pytest.approx(max(s['accuracy/top1'] for s in scalars if 'accuracy/top1' in s), abs=1e-3)


def test_predictions_are_dumped_and_flipped(trained, run_tool, tiny_config, tmp_path):
    work, _ = trained
    checkpoint = next(work.glob('epoch_*.pth'))
    run_tool('tools/test.py', tiny_config, checkpoint, '--work-dir', tmp_path, '--out', tmp_path / 'predictions.pkl', '--tta')
    import mmengine

    assert len(mmengine.load(tmp_path / 'predictions.pkl')) == 32


def test_norms_are_drawn_and_what_is_no_metric_is_refused(run_tool, tmp_path):
    run_tool('tools/draw_norms.py', '--drift', 0, 1, '--out', tmp_path / 'norms.png')
    assert (tmp_path / 'norms.png').stat().st_size > 10_000
    assert 'expected a positive definite matrix' in run_tool('tools/draw_norms.py', '--matrix', 1, 2, 1, fails=True)


def test_options_reach_the_run(run_tool, tiny_config, tmp_path):
    output = run_tool(
        'tools/train.py', tiny_config, '--work-dir', tmp_path, '--amp', '--auto-scale-lr', '--no-validate',
        '--cfg-options', 'optim_wrapper.optimizer.lr=0.008', 'train_cfg.max_epochs=1',
    )  # fmt: skip
    assert 'bfloat16 autocast on the CPU' in output
    assert 'accuracy' not in output.split('Epoch(train)')[-1]
    # batch 16 of the 64 that the config is made for
    assert re.search(r'lr: 2\.0000e-03', output)


def test_load_from_starts_from_a_checkpoint(trained, run_tool, tiny_config, tmp_path):
    work, _ = trained
    checkpoint = next(work.glob('epoch_*.pth'))
    output = run_tool('tools/train.py', tiny_config, '--work-dir', tmp_path, '--cfg-options', f'load_from={checkpoint}')
    assert f'Load checkpoint from {checkpoint}' in output
    assert re.search(r'Epoch\(train\)\s+\[1\]', output)


def test_two_processes_train_and_evaluate_on_the_cpu(run_tool, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHON', sys.executable)
    monkeypatch.setenv('PORT', str(20000 + os.getpid() % 20000))
    output = run_tool('bash', 'tools/dist_train.sh', tiny_config, 2, '--work-dir', tmp_path, python=False)
    # 64 images in batches of 16 on two processes
    assert re.search(r'Epoch\(train\)\s+\[1\]\[2/2\]', output)
    checkpoint = tmp_path / 'epoch_1.pth'
    output = run_tool('bash', 'tools/dist_test.sh', tiny_config, checkpoint, 2, '--work-dir', tmp_path / 'test', python=False)
    assert 'accuracy/top1' in output


def test_a_stock_config_trains_under_mmpretrains_own_tool(run_tool, idx_folder, tmp_path):
    """conv_cfg and custom_imports are all that a config of mmpretrain needs."""
    config = tmp_path / 'stock.py'
    config.write_text(f"""
_base_ = ['mmpretrain::_base_/models/resnet50.py', 'mmpretrain::_base_/default_runtime.py']
custom_imports = dict(imports=['metricconv_mm.integrations.mm'])
model = dict(
    backbone=dict(type='ResNet_CIFAR', conv_cfg=dict(type='MetricConv'), stem_channels=4, base_channels=4),
    head=dict(in_channels=128, num_classes=10, topk=(1,)))
data_preprocessor = dict(num_classes=10, mean=[128] * 3, std=[64] * 3)
train_dataloader = dict(
    batch_size=32, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), persistent_workers=False,
    dataset=dict(type='IDXDataset', data_root='{idx_folder}', pipeline=[dict(type='PackInputs')]))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
work_dir = '{tmp_path / 'work'}'
""")
    tool = Path(find_spec('mmpretrain').origin).parent / '.mim/tools/train.py'
    output = run_tool(tool, config, '--no-persistent-workers')
    assert re.search(r'Epoch\(train\)\s+\[1\]\[2/2\].*loss: \d', output)
    import torch

    keys = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)['state_dict']
    adaptive = {key.removesuffix('.predictor.weight') for key in keys if key.endswith('predictor.weight')}
    sizes = {name: tuple(keys[f'{name}.weight'].shape[2:]) for name in adaptive}
    # the stem and the 16 bottlenecks; their 1 x 1 convolutions stay standard
    assert len(adaptive) == 17 and set(sizes.values()) == {(3, 3)}


def test_pictures_of_a_trained_model(trained, run_tool, tiny_config, tmp_path):
    work, _ = trained
    run_tool('tools/draw_balls.py', tiny_config, next(work.glob('epoch_*.pth')), '--out', tmp_path / 'balls.png')
    run_tool('tools/plot_curves.py', work, '--out', tmp_path / 'curves.png')
    for name in ('balls.png', 'curves.png'):
        assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['tools/train.py', 'no/such/config.py'], 'no config'),
        (['tools/test.py', 'CONFIG', 'no/such/checkpoint.pth'], 'no checkpoint'),
        (['tools/train.py', 'CONFIG', '--cfg-options', 'train_dataloader.dataset.data_root=/no/such'], "Debian's package dataset"),
        (['tools/plot_curves.py', 'no/such/folder'], 'no training log'),
        (['tools/train.py', 'CONFIG', '--resume', 'no/such.pth'], 'to resume from'),
        (['tools/test.py', 'CONFIG', 'any.pth', '--out', 'predictions.json'], 'pred is written as .pkl'),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(arguments, message, run_tool, tiny_config, tmp_path):
    arguments = [tiny_config if a == 'CONFIG' else a for a in arguments]
    if 'train.py' in str(arguments[0]):
        arguments[2:2] = ['--work-dir', tmp_path]
    assert message in run_tool(*arguments, fails=True)


def test_a_checkpoint_of_another_model_is_not_evaluated(trained, run_tool, tiny_config, tmp_path):
    import torch

    work, _ = trained
    state = torch.load(next(work.glob('epoch_*.pth')), weights_only=False)['state_dict']
    plain = {key: value for key, value in state.items() if 'predictor' not in key}
    plain['head.fc.weight'] = plain['head.fc.weight'][:, :8]
    torch.save({'state_dict': plain}, tmp_path / 'plain.pth')
    output = run_tool('tools/test.py', tiny_config, tmp_path / 'plain.pth', '--work-dir', tmp_path, fails=True)
    assert '24 missing: backbone.layer2.0.conv1.predictor.weight' in output and '1 of another shape: head.fc.weight' in output
    assert 'accuracy/top1' not in output
    (tmp_path / 'text.pth').write_text('text')
    assert 'no checkpoint that torch can read' in run_tool('tools/test.py', tiny_config, tmp_path / 'text.pth', fails=True)


def test_predictions_are_drawn(trained, run_tool, tiny_config, tmp_path):
    work, _ = trained
    checkpoint, pictures = next(work.glob('epoch_*.pth')), tmp_path / 'pictures'
    run_tool('tools/test.py', tiny_config, checkpoint, '--work-dir', tmp_path, '--show-dir', pictures, '--interval', 8)
    assert list(pictures.glob('*.png'))

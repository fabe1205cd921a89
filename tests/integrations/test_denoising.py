"""Denoisers on a data set; the tools also on the other OpenMMLab stack."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, MODELS, init_default_scope

from metricconv_mm.denoising.tables import load_paper
from metricconv_mm.integrations.mm.denoising import DenoisingError, NoisyImageDataset, OneLayerDenoiser

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / 'configs/denoising').glob('*.py'))
METRIC = dict(type='MetricConv', encoding='cholesky', drift='sigmoid', support='polar', eps_w=0.1, kernel_init='uniform', fixed_kernel=True)


def dataset(root, sigma=0.1, splits=None, **options):
    return NoisyImageDataset(str(root), splits or dict(train='train'), sigma, **{'size': (24, 32), **options})


def test_an_image_keeps_its_noise_in_every_epoch_run_and_subset(image_folder):
    data = dataset(image_folder)
    assert len(data) == 6
    first, again = data[4], dataset(image_folder, cache=False)[4]
    assert torch.equal(first['inputs'], data[4]['inputs']) and torch.equal(first['inputs'], again['inputs'])
    subset = dataset(image_folder, indices=[4, 1])
    assert torch.equal(subset[0]['inputs'], first['inputs']) and subset[0]['name'] == 'train4'
    assert not torch.equal(dataset(image_folder, seed=1)[4]['inputs'], first['inputs'])
    assert torch.equal(dataset(image_folder, 0.5)[4]['clean'], first['clean'])


def test_images_are_of_one_size_in_eight_bits_and_in_range(image_folder):
    for item in dataset(image_folder, 0.5):
        for image in (item['inputs'], item['clean']):
            assert image.shape == (1, 24, 32) and image.min() >= 0 and image.max() <= 1
            assert torch.allclose(255 * image, (255 * image).round(), atol=1e-4)
        assert (item['inputs'] == 0).any() and (item['inputs'] == 1).any(), 'strong noise is clamped'


def test_noise_has_the_deviation_asked_for(image_folder):
    for sigma in (0.0, 0.05):
        data = dataset(image_folder, sigma)
        # grey enough not to be clamped
        differences = torch.cat([(i['inputs'] - i['clean'])[(i['clean'] > 0.25) & (i['clean'] < 0.75)] for i in (data[k] for k in range(6))])
        assert abs(differences.std() - sigma) < 0.003 and abs(differences.mean()) < 0.003


def test_crops_are_of_the_same_place_and_move(image_folder):
    whole, crops = dataset(image_folder)[2], [dataset(image_folder, crop=(8, 8))[2] for _ in range(8)]
    windows = {key: whole[key][0].unfold(0, 8, 1).unfold(1, 8, 1) for key in ('inputs', 'clean')}
    places = set()
    for crop in crops:
        found = [(windows[key] == crop[key]).all(-1).all(-1).nonzero().tolist() for key in ('inputs', 'clean')]
        assert found[0] and found[0][0] in found[1]
        places.add(tuple(found[0][0]))
    assert len(places) > 1


def test_lists_of_images(image_folder):
    data = dataset(image_folder, splits=dict(train='train.txt'), image_folder='train', image_suffix='.png')
    assert torch.equal(data[3]['inputs'], dataset(image_folder)[3]['inputs'])
    with pytest.raises(FileNotFoundError, match=r'train.txt lists 6 images, of which 6 are missing, .*train0.jpg'):
        dataset(image_folder, splits=dict(train='train.txt'), image_folder='train')


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(root='/no/such'), FileNotFoundError, r"no folder of images '/no/such/train'.*docs/denoising.md"),
        (dict(splits=dict(train='no.txt')), FileNotFoundError, 'no list of images'),
        (dict(splits=dict(train='.')), ValueError, 'has no images'),
        (dict(splits={}), ValueError, 'expected splits'),
        (dict(sigma=-1), ValueError, 'sigma'),
        (dict(size=(0, 5)), ValueError, 'size'),
        (dict(crop=(25, 8)), ValueError, r'crop=\(rows, columns\) of at most \(24, 32\)'),
    ],
)
def test_what_does_not_fit_is_refused(image_folder, options, error, message):
    with pytest.raises(error, match=message):
        NoisyImageDataset(
            **{'data_root': str(options.pop('root', image_folder)), 'splits': dict(train='train'), 'sigma': 0.1, 'size': (24, 32), **options}
        )


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train/bad.png').write_text('text')
    with pytest.raises(ValueError, match='bad.png is no picture'):
        dataset(tmp_path)[0]


def test_errors_are_means_over_images_whatever_the_batches(image_folder):
    """33 images in batches of 32 and 1: each counts alike."""
    errors = torch.rand(33).tolist()
    samples = [{'split': 'val', 'mse': error} for error in errors]
    values = []
    for batches in ([samples[:32], samples[32:]], [samples]):
        metric = DenoisingError()
        for batch in batches:
            metric.process(None, batch)
        values.append(metric.evaluate(33))
    assert values[0] == values[1] and values[0]['denoising/mse'] == pytest.approx(np.mean(errors))
    assert values[0]['denoising/psnr'] == pytest.approx(np.mean([-10 * np.log10(error) for error in errors]))


def test_the_gap_compares_both_splits():
    metric = DenoisingError(prefix='x')
    metric.process(None, [{'split': 'val', 'mse': 3.0}, {'split': 'train', 'mse': 1.0}, {'split': 'train', 'mse': 3.0}])
    assert metric.evaluate(3) == {'x/mse': 3.0, 'x/psnr': pytest.approx(-4.77, abs=0.01), 'x/train_mse': 2.0, 'x/gap': 0.5}
    metric.process(None, [{'split': 'train', 'mse': 3.0}])
    with pytest.raises(ValueError, match="no images of split 'val'"):
        metric.evaluate(1)


def test_model_predicts_an_error_for_every_image(image_folder):
    model = OneLayerDenoiser(METRIC, 5)
    batch = pseudo_collate([dataset(image_folder)[i] for i in range(3)])
    data = {**batch, 'inputs': torch.stack(batch['inputs']), 'clean': torch.stack(batch['clean'])}
    predictions = model.val_step(data)
    loss = model(**data, mode='loss')['loss']
    assert np.mean([p['mse'] for p in predictions]) == pytest.approx(loss.item(), rel=1e-5)
    assert [p['name'] for p in predictions] == ['train0', 'train1', 'train2'] and predictions[0]['split'] == 'train'
    assert predictions[0]['denoised'].shape == (1, 24, 32)
    with pytest.raises(ValueError, match='expected them as clean'):
        model(data['inputs'], mode='loss')


def test_predictors_start_with_a_random_bias_and_kernels_uniform():
    model = OneLayerDenoiser(METRIC, 5)
    model.init_weights()
    bias = model.conv.predictor.bias
    assert 0 < bias.abs().max() <= 1 / 5 and bias.unique().numel() == 5
    assert (model.conv.weight == 1 / 25).all() and not model.conv.weight.requires_grad
    assert (OneLayerDenoiser(METRIC, 5, random_bias=False).conv.predictor.bias == 0).all()
    with pytest.raises(ValueError, match='odd kernel size'):
        OneLayerDenoiser(METRIC, 4)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_trains_a_step_at_the_papers_rate(path, image_folder):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    method, kernel, data = re.fullmatch(r'(deform|metric)-k5(?:-eps.+)?_(\w+)-kernel_1xb32-100e_(\w+)', path.stem).groups()
    name = method if method == 'deform' else f'metric-{cfg.model.conv.eps_w}'
    rate = load_paper(path.parent / 'paper.json', data)['lr']['0.1'][f'{name}-{kernel}']['5']
    assert cfg.optim_wrapper.optimizer.lr == rate and cfg.train_dataloader.dataset.sigma == 0.1
    model = MODELS.build(cfg.model)
    names = {name for name, parameter in model.named_parameters()}
    assert names == {'conv.predictor.weight', 'conv.predictor.bias'} | ({'conv.weight'} if kernel == 'learnt' else set())
    where = dict(data_root=str(image_folder), size=(24, 32), image_folder='.', splits=dict(val='val', train='train'))
    items = DATASETS.build({**cfg.val_dataloader.dataset, **where})
    data = {key: torch.stack([items[i][key] for i in range(2)]) for key in ('inputs', 'clean')}
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    model.train_step(data, build_optim_wrapper(model, cfg.optim_wrapper))
    moved = [not torch.equal(parameter, before[name]) and bool(parameter.isfinite().all()) for name, parameter in model.named_parameters()]
    assert all(moved)
    assert METRICS.build(cfg.val_evaluator) is not None


@pytest.mark.stack
def test_a_table_is_trained_and_a_second_run_trains_nothing(run_tool, image_folder, tmp_path):
    command = [
        'tools/denoising_table.py', 'bsds300', '--data-root', image_folder, '--out', tmp_path,
        '--methods', 'metric-0.1', '--kernels', 'learnt', '--kernel-sizes', '5', '--sigmas', '0.3', '--epochs', '1', '--crop', '16',
    ]  # fmt: skip
    output = run_tool(*command)
    name = 'sigma0.3_k5_metric-0.1-learnt'
    result = json.loads((tmp_path / f'{name}.json').read_text())
    assert result['gap'] == pytest.approx((result['mse'] - result['train_mse']) / result['train_mse']) and not result['diverged_in_epoch']
    assert re.search(r'sigma=0.3 k=5 \| .* / 9.15e-3', output) and (tmp_path / 'tables.md').is_file()
    (checkpoint,) = (tmp_path / name).glob('epoch_*.pth')
    written = checkpoint.stat().st_mtime_ns
    assert run_tool(*command).count('9.15e-3') == 1 and checkpoint.stat().st_mtime_ns == written


@pytest.mark.stack
def test_missing_data_is_said(run_tool, tmp_path):
    output = run_tool('tools/denoising_table.py', 'voc2012', '--data-root', tmp_path / 'none', '--out', tmp_path, '--methods', 'deform', fails=True)
    assert 'no list of images' in output and 'docs/denoising.md' in output and not list(tmp_path.glob('*.json'))


@pytest.fixture
def table(monkeypatch, capsys, image_folder, tmp_path):
    """A function that trains one cell of the table in this process; returns what it printed, or the message that it ended with."""

    def train(*arguments, fails=False):
        command = ['--data-root', image_folder, '--methods', 'metric-0.1', '--kernels', 'learnt', '--kernel-sizes', 5, '--sigmas', 0.3, '--crop', 8]
        monkeypatch.setattr(sys, 'argv', ['denoising_table.py', 'bsds300', *map(str, [*command, '--out', tmp_path / 'out', *arguments])])
        if not fails:
            runpy.run_path(str(ROOT / 'tools/denoising_table.py'), run_name='__main__')
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / 'tools/denoising_table.py'), run_name='__main__')
        return str(ended.value.code)

    return train


def test_a_run_that_was_stopped_goes_on_as_it_began_or_not_at_all(table, tmp_path):
    table('--epochs', 10)
    (result,) = (tmp_path / 'out').glob('*.json')
    (checkpoint,) = (tmp_path / 'out').glob('*/epoch_10.pth')
    result.unlink()
    assert 'made with other settings: lr 0.1 there and 0.5 now' in table('--epochs', 10, '--lr', 0.5, fails=True)
    table('--epochs', 10)
    result.unlink()
    # as killed in the middle of writing it
    checkpoint.write_bytes(checkpoint.read_bytes()[:300])
    assert 'holds no checkpoint to go on from' in table('--epochs', 10, fails=True)


def test_training_that_diverges_at_its_last_step_is_said(table, tmp_path):
    assert 'diverged in epoch 1' in table('--epochs', 1, '--lr', 1e30)
    result = json.loads(next((tmp_path / 'out').glob('*.json')).read_text())
    assert result['mse'] is None and result['diverged_in_epoch'] == 1


@pytest.mark.parametrize('rate', ['nan', 'inf', 0, -1])
def test_rates_that_are_none_are_refused(table, rate):
    assert '--lr: expected a learning rate above 0' in table('--lr', rate, fails=True)


def test_an_interruption_is_said_even_where_mmengine_takes_it_for_a_wrong_config(table, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', interrupted)
    assert 'interrupted: the same command goes on' in table('--epochs', 1, fails=True)

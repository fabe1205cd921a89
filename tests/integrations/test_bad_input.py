"""Data that are missing or of other classes, and checkpoints that cannot be resumed from: each says what came and what to do."""

import os
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.datasets import cifar

from metricconv_mm.integrations.mm import launch
from metricconv_mm.integrations.mm.datasets import IDXDataset, LocalCIFAR10, LocalCIFAR100

pytestmark = pytest.mark.stack


@pytest.fixture
def downloads(monkeypatch):
    """Where mmpretrain would have unpacked what it downloads."""
    made = []
    monkeypatch.setattr(cifar, 'download_and_extract_archive', lambda url, root, **_: made.append((url, Path(root))))
    return made


@pytest.mark.parametrize(('cls', 'folder'), [(LocalCIFAR10, 'cifar-10-batches-py'), (LocalCIFAR100, 'cifar-100-python')])
@pytest.mark.parametrize('split', ['train', 'test'])
def test_missing_cifar_is_explained_and_not_downloaded(cls, folder, split, tmp_path, downloads):
    for state in ('does not exist', 'holds other or damaged files'):
        with pytest.raises(FileNotFoundError) as error:
            cls(data_root=str(tmp_path), split=split)
        message = str(error.value)
        assert f'{tmp_path / folder} {state}' in message and f'{cls.url} | tar -xz -C {tmp_path}' in message
        assert '--cfg-options train_dataloader.dataset.data_root=FOLDER' in message and 'train_dataloader.dataset.download=True' in message
        (tmp_path / folder).mkdir(exist_ok=True)
    assert not downloads


def test_cifar_is_downloaded_when_asked(tmp_path, downloads):
    with pytest.raises(AssertionError, match='Download failed'):  # nothing came
        LocalCIFAR10(data_root=str(tmp_path), download=True)
    assert downloads == [(LocalCIFAR10.url, tmp_path)]


def test_missing_idx_files_say_which_option_names_their_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'not found in {tmp_path}: put it there, .*--cfg-options train_dataloader.dataset.data_root=FOLDER'):
        IDXDataset(str(tmp_path))


@pytest.fixture
def runner(tiny_config, tmp_path):
    """A function that builds the runner of the tiny config with changes."""

    def make(**changes):
        cfg = Config.fromfile(tiny_config)
        cfg.merge_from_dict({'work_dir': str(tmp_path), 'visualizer.vis_backends': [], 'experiment_name': tmp_path.name, **changes})
        return Runner.from_cfg(cfg)

    return make


def test_another_number_of_classes_is_refused_before_training(runner):
    with pytest.raises(ValueError, match=r"the training data have 10 classes \(T-shirt.*model's head 7: --cfg-options model.head.num_classes"):
        runner(**{'model.head.num_classes': 7}).train()


def test_labels_beyond_the_classes_are_refused_with_the_batch(runner):
    seven = {'train_dataloader.dataset.metainfo': dict(classes=list('abcdefg')), 'model.head.num_classes': 7, 'train_dataloader.batch_size': 64}
    with pytest.raises(ValueError, match=r"labels from 0 to 9 in one batch, the model's head has 7 classes, 0 to 6: correct the labels"):
        runner(**seven).train()


def test_evaluation_compares_the_classes_too(runner):
    with pytest.raises(ValueError, match=r"the test data have 3 classes \(a, b, c, ...\), the model's head 10"):
        runner(**{'test_dataloader.dataset.metainfo': dict(classes=list('abc'))}).test()


@pytest.fixture
def work(tmp_path):
    """Three checkpoints, the last of them cut short and on record."""
    for epoch in (1, 2, 3):
        torch.save({'state_dict': {'weight': torch.ones(100)}, 'meta': {'epoch': epoch}}, tmp_path / f'epoch_{epoch}.pth')
    (tmp_path / 'epoch_3.pth').write_bytes((tmp_path / 'epoch_3.pth').read_bytes()[:200])
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    return tmp_path


def resumed(work, named=None):
    return launch.choose_resumed(Config(dict(resume=True, load_from=named, work_dir=str(work)))).load_from


def test_a_named_checkpoint_that_is_cut_short_is_refused_and_another_named(work):
    with pytest.raises(SystemExit, match=f'{work}/epoch_3.pth cannot be read, perhaps because it is cut short .*Resume from {work}/epoch_2.pth'):
        resumed(work, str(work / 'epoch_3.pth'))
    assert resumed(work, str(work / 'epoch_1.pth')) == str(work / 'epoch_1.pth')


def test_checkpoints_of_the_same_moment_are_told_apart_by_their_numbers(work):
    for epoch in (9, 10):
        (work / f'epoch_{epoch}.pth').write_bytes((work / 'epoch_1.pth').read_bytes())
    for path in work.glob('*.pth'):
        os.utime(path, ns=(10**18, 10**18))
    assert resumed(work) == str(work / 'epoch_10.pth')


def test_other_files_are_no_checkpoints_to_resume_from(work, capsys):
    torch.save({'state_dict': {'weight': torch.ones(2)}}, work / 'pretrained.pth')
    assert resumed(work) == str(work / 'epoch_2.pth')
    assert 'pretrained.pth is passed over: it is no checkpoint of a training run' in capsys.readouterr().out


def test_when_no_checkpoint_is_left_that_is_said(work):
    for path in work.glob('*.pth'):
        path.write_bytes(b'')
    with pytest.raises(SystemExit, match='holds no checkpoint to go on from'):
        resumed(work)
    with pytest.raises(SystemExit, match='no other beside it'):
        resumed(work, str(work / 'epoch_1.pth'))


def test_without_a_record_training_starts(work):
    for path in work.iterdir():
        path.unlink()
    assert resumed(work) is None


def test_checkpoints_elsewhere_are_found_by_the_record(work, tmp_path_factory):
    other = tmp_path_factory.mktemp('elsewhere')
    (other / 'last_checkpoint').write_text(str(work / 'epoch_3.pth'))
    assert resumed(other) == str(work / 'epoch_2.pth')

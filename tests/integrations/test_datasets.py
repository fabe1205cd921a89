from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmpretrain')
from metricconv_mm.integrations.mm.datasets import FASHION_MNIST_CLASSES, IDXDataset, read_idx

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(('split', 'count'), [('train', 10_000), ('test', 2_000)])
def test_the_images_of_the_project_are_balanced_and_real(split, count):
    dataset = IDXDataset(str(ROOT / 'data/fashion_mnist_12k'), split)
    labels = [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]
    assert np.bincount(labels).tolist() == [count // 10] * 10
    image = dataset.get_data_info(0)['img']
    assert image.shape == (28, 28, 3) and image.dtype == np.uint8 and (image[..., 0] == image[..., 2]).all() and image.std() > 10
    assert dataset.metainfo['classes'] == FASHION_MNIST_CLASSES


def test_uncompressed_files_are_read_too(tmp_path, idx_folder, idx_writer):
    for split in ('train', 't10k'):
        for kind in ('images-idx3-ubyte', 'labels-idx1-ubyte'):
            idx_writer(tmp_path / f'{split}-{kind}', read_idx(idx_folder / f'{split}-{kind}.gz'))
    packed, plain = IDXDataset(str(idx_folder)), IDXDataset(str(tmp_path))
    assert len(packed) == len(plain) == 64
    assert (packed.get_data_info(3)['img'] == plain.get_data_info(3)['img']).all()


def test_a_subset_and_other_classes(idx_folder):
    dataset = IDXDataset(str(idx_folder), indices=7, metainfo=dict(classes=[str(i) for i in range(10)]))
    assert len(dataset) == 7 and dataset.metainfo['classes'][3] == '3'


def test_a_missing_folder_says_how_to_get_the_data():
    with pytest.raises(FileNotFoundError, match='dataset-fashion-mnist'):
        IDXDataset('/no/such/folder')


def test_an_unknown_split_is_refused(idx_folder):
    with pytest.raises(ValueError, match="choose one of \\['test', 'train'\\]"):
        IDXDataset(str(idx_folder), split='val')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'no IDX file'),
        (b'\x00\x00\x0d\x01abcd', 'no IDX file'),
        (b'\x00\x00\x08\x03\x00', 'cut short'),
        (b'\x00\x00\x08\x01\x00\x00\x00\x05ab', 'cut short'),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, message):
    path = tmp_path / 'train-images-idx3-ubyte'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_a_gzip_file_cut_short_is_named(tmp_path, idx_folder):
    path = tmp_path / 'train-images-idx3-ubyte.gz'
    path.write_bytes((idx_folder / path.name).read_bytes()[:200])
    with pytest.raises(ValueError, match='cannot be read'):
        read_idx(path)


def test_images_and_labels_must_match(tmp_path, idx_writer):
    idx_writer(tmp_path / 'train-images-idx3-ubyte', np.zeros((3, 4, 4)))
    idx_writer(tmp_path / 'train-labels-idx1-ubyte', np.zeros(2))
    with pytest.raises(ValueError, match='expected images'):
        IDXDataset(str(tmp_path))

"""Images in the IDX format of MNIST and Fashion-MNIST, compressed or not; CIFAR that is not downloaded unasked."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from mmpretrain.datasets import CIFAR10, CIFAR100, BaseDataset

FASHION_MNIST_CLASSES = (
    'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot',
)  # fmt: skip
SPLITS = {'train': 'train', 'test': 't10k'}
UNSIGNED_BYTE = 8
DATA_ROOTS = 'train_dataloader.dataset.data_root=FOLDER, and the same for val_dataloader and test_dataloader'


def read_idx(path: Path) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, gzip-compressed if its name ends in .gz.

    Raises:
        ValueError: for a file that is not IDX, holds another type, or is cut short.
    """
    opened = gzip.open(path, 'rb') if path.suffix == '.gz' else path.open('rb')
    try:
        with opened as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise ValueError(f'{path} cannot be read ({error}): copy it again') from error
    if len(content) < 4 or content[:2] != b'\0\0' or content[2] != UNSIGNED_BYTE:
        raise ValueError(f'{path} is no IDX file of unsigned bytes: it starts with {content[:4].hex(" ") or "nothing"}')
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f'{path} is cut short: expected a header of {start} bytes, got {len(content)}')
    shape = struct.unpack(f'>{dimensions}I', content[4:start])
    if len(content) != start + int(np.prod(shape)):
        raise ValueError(
            f'{path} is cut short or too long: expected {shape} = {int(np.prod(shape))} bytes after its header, got {len(content) - start}'
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


@DATASETS.register_module()
class IDXDataset(BaseDataset):
    """MNIST-like images for mmpretrain: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-...``, with or without ``.gz``.

    Args:
        data_root: the folder that holds the files.
        split: 'train' or 'test'.
        indices: take these, or the first so many, images alone.
        metainfo: ``dict(classes=...)``; Fashion-MNIST's classes unless given.

    Raises:
        FileNotFoundError: when a file is missing, saying how to get it.
        ValueError: for an unknown split, files that are not IDX, or images and labels of different numbers.
    """

    METAINFO = {'classes': FASHION_MNIST_CLASSES}

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        if split not in SPLITS:
            raise ValueError(f'unknown {split=}: choose one of {sorted(SPLITS)}')
        self.split = split
        super().__init__(ann_file='', data_root=data_root, data_prefix='', test_mode=split == 'test', **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        images, labels = (read_idx(self._find(kind)) for kind in ('images-idx3-ubyte', 'labels-idx1-ubyte'))
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ValueError(f'{self.data_root}: expected images [N, H, W] and labels [N], got {images.shape} and {labels.shape}')
        return [
            {'img': np.repeat(image[..., None], 3, axis=2), 'gt_label': int(label), 'sample_idx': index}
            for index, (image, label) in enumerate(zip(images, labels, strict=True))
        ]

    def _find(self, kind: str) -> Path:
        name = f'{SPLITS[self.split]}-{kind}'
        for path in (Path(self.data_root) / f'{name}.gz', Path(self.data_root) / name):
            if path.is_file():
                return path
        raise FileNotFoundError(
            f'{name}[.gz] not found in {Path(self.data_root).resolve()}: put it there, or say where it is: --cfg-options {DATA_ROOTS}. '
            'data/fashion_mnist_12k of this project holds a part of Fashion-MNIST; '
            "all of it is Debian's package dataset-fashion-mnist (data_root='/usr/share/datasets/fashion-mnist'), "
            'and torchvision.datasets.MNIST(root, download=True) or FashionMNIST leaves these files in root/MNIST/raw or root/FashionMNIST/raw'
        )


class _OnDisk(CIFAR10):
    """mmpretrain's CIFAR, which downloads nothing unless ``download=True``.

    Raises:
        FileNotFoundError: when files are missing or differ from the published ones, in every process of a run, saying how to get them.
    """

    def __init__(self, *args: Any, download: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, download=download, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        if not self.download and not self._check_integrity():
            root = Path(self.data_prefix['root'])
            folder = root / self.base_folder
            state = 'holds other or damaged files' if folder.is_dir() else 'does not exist'
            raise FileNotFoundError(
                f'{self.base_folder}: {folder.resolve()} {state}. To put it there: '
                f'mkdir -p {root} && curl -L {self.url} | tar -xz -C {root}. '
                f'If it is elsewhere: --cfg-options {DATA_ROOTS}. '
                'To let mmpretrain download it: --cfg-options train_dataloader.dataset.download=True'
            )
        return super().load_data_list()


@DATASETS.register_module()
class LocalCIFAR10(_OnDisk):
    __doc__ = _OnDisk.__doc__


@DATASETS.register_module()
class LocalCIFAR100(_OnDisk, CIFAR100):
    __doc__ = _OnDisk.__doc__

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def write_idx(path, array):
    header = struct.pack('>BBBB', 0, 0, 8, array.ndim) + struct.pack(f'>{array.ndim}I', *array.shape)
    opened = gzip.open(path, 'wb') if path.suffix == '.gz' else path.open('wb')
    with opened as file:
        file.write(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope='session')
def idx_folder(tmp_path_factory):
    """64 + 32 images of 12 x 12 whose class shows in their brightness."""
    folder = tmp_path_factory.mktemp('idx')
    generator = np.random.default_rng(0)
    for split, count in (('train', 64), ('t10k', 32)):
        labels = np.arange(count) % 10
        images = labels[:, None, None] * 20 + generator.integers(0, 20, (count, 12, 12))
        write_idx(folder / f'{split}-images-idx3-ubyte.gz', images)
        write_idx(folder / f'{split}-labels-idx1-ubyte.gz', labels)
    return folder


@pytest.fixture(scope='session')
def idx_writer():
    return write_idx


@pytest.fixture(scope='session')
def tiny_config(idx_folder, tmp_path_factory):
    """The demo's config, on these images and so narrow that an epoch takes a second."""
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    base = ROOT / 'configs/resnet/resnet18-w16_metric-layer2-4_1xb64-3e_fashion-mnist-12k.py'
    dataset = f"dict(data_root='{idx_folder}')"
    path.write_text(f"""
_base_ = '{base}'
model = dict(backbone=dict(stem_channels=4, base_channels=4), head=dict(in_channels=32))
train_dataloader = dict(batch_size=16, num_workers=0, dataset={dataset})
val_dataloader = dict(batch_size=16, num_workers=0, dataset={dataset})
test_dataloader = dict(batch_size=16, num_workers=0, dataset={dataset})
train_cfg = dict(max_epochs=1)
param_scheduler = dict(_delete_=True, type='ConstantLR', factor=1.0)
default_hooks = dict(logger=dict(interval=1))
""")
    return path


@pytest.fixture(scope='session')
def run_tool():
    """Run a tool as a user does; returns everything it printed."""

    def run(*arguments, fails=False, python=True):
        command = [*([sys.executable] if python else []), *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output[-4000:]
        return output

    return run


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory):
    """train: six smooth pictures of several sizes and modes; val: three; and lists of them."""
    from PIL import Image

    root = tmp_path_factory.mktemp('images')
    generator = np.random.default_rng(0)
    for split, count in (('train', 6), ('val', 3)):
        (root / split).mkdir()
        for index in range(count):
            coarse = Image.fromarray(generator.integers(0, 256, (4, 5, 3), dtype=np.uint8))
            coarse.resize((40 + index, 30), Image.Resampling.BICUBIC).convert('L' if index == 1 else 'RGB').save(root / split / f'{split}{index}.png')
        (root / f'{split}.txt').write_text('\n'.join(f'{split}{index}' for index in range(count)) + '\n')
    (root / 'train/notes.md').write_text('no picture')
    return root

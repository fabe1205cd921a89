"""Denoising with one convolution, learnt on a data set (Tables 2 and 8 of the paper): noisy images, the model, and its errors."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn import build_conv_layer
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from ...denoising import check_sigma, frozen_noise, generalisation_gap, psnr_of

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


@DATASETS.register_module()
class NoisyImageDataset(BaseDataset):
    """Grey images of one size and noisy versions of them, both clamped to [0, 1] and rounded to 8 bits, as in the paper.

    An image keeps its noise: it depends on ``seed``, ``sigma`` and the name of the file alone. Nothing is written; images are prepared when first
    asked for, and kept in memory as bytes.

    Args:
        data_root: the folder that holds the images.
        splits: a name and a folder below ``data_root`` each, or a .txt file that lists names of images, one a line, such as PascalVOC's.
        sigma: standard deviation of the noise, for grey levels in [0, 1].
        size: (rows, columns) that images are resized to, whatever their aspect ratio.
        seed: of the noise.
        image_folder, image_suffix: where images that a .txt file lists are, below ``data_root``.
        crop: (rows, columns) of a random part of every image, another one each time; None is all of it.
        cache: keep prepared images in memory, 2 bytes a pixel.

    Items:
        ``inputs`` and ``clean``, ``Tensor[1, rows, columns]`` in [0, 1]; ``split`` and ``name``.

    Raises:
        FileNotFoundError: when a folder, list or listed image is missing.
        ValueError: for a negative sigma, an empty size, a crop larger than the images, or splits without images.
    """

    METAINFO = {'task': 'denoising'}

    def __init__(
        self,
        data_root: str,
        splits: dict[str, str],
        sigma: float,
        size: Sequence[int] = (256, 256),
        seed: int = 0,
        image_folder: str = '.',
        image_suffix: str = '.jpg',
        crop: Sequence[int] | None = None,
        cache: bool = True,
        **kwargs: Any,
    ) -> None:
        check_sigma(sigma)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f'expected size=(rows, columns) of at least one pixel, got {size=}')
        if crop is not None and not (len(crop) == 2 and 1 <= crop[0] <= size[0] and 1 <= crop[1] <= size[1]):
            raise ValueError(f'expected crop=(rows, columns) of at most {tuple(size)}, got {crop=}')
        if not splits:
            raise ValueError("expected splits such as dict(train='train'), a name and a folder or list each, got none")
        self.splits, self.sigma, self.size, self.seed, self.cache = dict(splits), sigma, tuple(size), seed, cache
        self.image_folder, self.image_suffix, self.crop = image_folder, image_suffix, crop
        self._prepared: dict[int, tuple[Tensor, Tensor]] = {}
        super().__init__(ann_file='', data_root=data_root, data_prefix={}, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{'img_path': str(path), 'name': path.stem, 'split': split} for split, place in self.splits.items() for path in self._images(place)]

    def _images(self, place: str) -> list[Path]:
        root, where = Path(self.data_root), Path(self.data_root) / place
        if where.suffix == '.txt' and where.is_file():
            names = [line.split()[0] for line in where.read_text().splitlines() if line.strip()]
            paths = [root / self.image_folder / f'{name}{self.image_suffix}' for name in names]
            missing = [path for path in paths if not path.is_file()]
            if missing:
                raise FileNotFoundError(f'{where} lists {len(paths)} images, of which {len(missing)} are missing, {missing[0]} among them')
        elif where.is_dir():
            paths = sorted(path for path in where.iterdir() if path.suffix.lower() in SUFFIXES)
        else:
            kind = 'list of images' if where.suffix == '.txt' else 'folder of images'
            raise FileNotFoundError(
                f'no {kind} {str(where)!r}: data_root={str(self.data_root)!r} should be the folder that holds {", ".join(self.splits.values())}. '
                'docs/denoising.md says where data sets come from'
            )
        if not paths:
            raise ValueError(f'{where} has no images: expected files that end in {", ".join(SUFFIXES)}')
        return paths

    def prepare_data(self, idx: int) -> Any:
        info = self.get_data_info(idx)
        clean, noisy = self._prepared[idx] if idx in self._prepared else self._prepare(info)
        if self.cache:
            self._prepared[idx] = clean, noisy
        if self.crop is not None:
            row, column = (int(torch.randint(whole - part + 1, ())) for whole, part in zip(self.size, self.crop, strict=True))
            clean, noisy = (image[:, row : row + self.crop[0], column : column + self.crop[1]] for image in (clean, noisy))
        return self.pipeline({'inputs': noisy.float() / 255, 'clean': clean.float() / 255, 'split': info['split'], 'name': info['name']})

    def _prepare(self, info: dict[str, Any]) -> tuple[Tensor, Tensor]:
        # matplotlib, which comes along, takes a while to import
        from ...visualization.images import read_image

        grey = read_image(info['img_path'], grey=True)
        clean = _bytes(interpolate(grey[None], self.size, mode='bilinear', align_corners=False, antialias=True)[0])
        return clean, _bytes(clean.float() / 255 + frozen_noise(clean.shape, info['name'], self.sigma, self.seed))


def _bytes(image: Tensor) -> Tensor:
    return (255 * image.clamp(0, 1)).round().to(torch.uint8)


@MODELS.register_module()
class OneLayerDenoiser(BaseModel):
    """One convolution of a grey image, trained to remove its noise; the loss is the MSE.

    Args:
        conv: the convolution, such as ``dict(type='MetricConv', encoding='cholesky', support='polar', fixed_kernel=True)``.
        kernel_size: k, odd.
        random_bias: the predictor's bias starts at random, U(-1 / k, 1 / k), as in the paper's denoisers, whatever the layer's own initialisation.

    Raises:
        ValueError: for an even kernel.
    """

    def __init__(self, conv: dict, kernel_size: int = 5, random_bias: bool = True, data_preprocessor: Any = None, init_cfg: Any = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'expected an odd kernel size, so that the image keeps its size, got {kernel_size=}')
        self.conv = build_conv_layer(conv, 1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        if random_bias and hasattr(self.conv, 'predictor'):
            nn.init.uniform_(self.conv.predictor.bias, -1 / kernel_size, 1 / kernel_size)

    def forward(self, inputs: Tensor, clean: Tensor | None = None, mode: str = 'tensor', **about: list[str]) -> Any:
        """``Tensor[N, 1, H, W]`` to the same, to its loss, or to a dict for every image, as ``mode`` says."""
        denoised = self.conv(inputs)
        if mode == 'tensor':
            return denoised
        if clean is None:
            raise ValueError(f'{mode=} compares with the clean images: expected them as clean, got none')
        if mode == 'loss':
            return {'loss': mse_loss(denoised, clean)}
        errors = (denoised - clean).square().mean((1, 2, 3)).tolist()
        return [
            {'denoised': image, 'mse': error, **{key: values[index] for key, values in about.items()}}
            for index, (image, error) in enumerate(zip(denoised, errors, strict=True))
        ]


@METRICS.register_module()
class DenoisingError(BaseMetric):
    """Means over the images of a split: ``mse`` and ``psnr`` (dB), and what generalising costs.

    Where images of the split that was trained on are evaluated as well, with the same parameters, ``train_mse`` and
    ``gap`` = (mse - train_mse) / train_mse, the paper's delta. Every image counts alike, whatever the batches.

    Args:
        split, train_split: names of :class:`NoisyImageDataset`'s splits.
    """

    def __init__(self, split: str = 'val', train_split: str = 'train', prefix: str | None = 'denoising', **kwargs: Any) -> None:
        super().__init__(prefix=prefix, **kwargs)
        self.split, self.train_split = split, train_split

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        self.results += [(sample['split'], sample['mse']) for sample in data_samples]

    def compute_metrics(self, results: list[tuple[str, float]]) -> dict[str, float]:
        errors = [mse for split, mse in results if split == self.split]
        if not errors:
            raise ValueError(f'no images of split {self.split!r} were evaluated: there are {sorted({split for split, _ in results})}')
        mse = statistics.fmean(errors)
        metrics = {'mse': mse, 'psnr': statistics.fmean(map(psnr_of, errors))}
        trained_on = [error for split, error in results if split == self.train_split]
        if trained_on and self.train_split != self.split:
            train = statistics.fmean(trained_on)
            metrics |= {'train_mse': train, 'gap': generalisation_gap(train, mse)}
        return metrics

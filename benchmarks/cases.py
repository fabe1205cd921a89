"""What is measured: layers of real networks, by their shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

TOPICS = {
    'headline': 'Four layers, C to C channels, 3 x 3: the geometric means above are over these',
    'resnet18-cifar': 'ResNet-18 on 32 px images: the 3 x 3 convolutions of layer2 to layer4',
    'resnet50': 'ResNet-50 on 224 px images: the 3 x 3 convolutions',
    'large': 'One large image',
    'denoising': 'One channel, large kernels',
    'depthwise': 'Depthwise 3 x 3',
}


@dataclass(frozen=True)
class Case:
    """A convolution with 'same' padding and without bias: ``channels`` to ``out_channels``, square kernel and image."""

    topics: tuple[str, ...]
    batch: int
    channels: int
    size: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        channels = str(self.channels) if self.channels == self.out_channels else f'{self.channels}to{self.out_channels}'
        extra = (f'-stride{self.stride}' if self.stride > 1 else '') + (f'-groups{self.groups}' if self.groups > 1 else '')
        return f'batch{self.batch}-channels{channels}-size{self.size}-kernel{self.kernel}{extra}'

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def taps(self) -> int:
        return self.kernel**2

    @property
    def radius(self) -> int:
        """Of the window, in pixels: the unit balls are made about as large."""
        return max(1, self.kernel // 2)

    @property
    def output_size(self) -> int:
        return (self.size - 1) // self.stride + 1

    @property
    def work(self) -> int:
        """Samples times channels, and a few more for finding where to sample."""
        return self.batch * self.output_size**2 * self.taps * (self.channels + 13)

    def smaller(self, work: int) -> tuple[int, int]:
        """(batch, image size) of a part of the case, fewer images first, that takes about ``work``; the kernel fits into it."""
        image = self.work // self.batch
        if image <= work:
            return min(self.batch, work // image), self.size
        return 1, max(min(self.size, self.kernel), math.isqrt(work * self.output_size**2 // image) * self.stride)


def _same(topics: tuple[str, ...], batch: int, channels: int, size: int, **others: int) -> Case:
    return Case(topics, batch, channels, size, channels, **others)


def _cases() -> list[Case]:
    headline, cifar, imagenet = 'headline', 'resnet18-cifar', 'resnet50'
    cases = [_same((headline,), 8, 64, 56), _same((headline,), 8, 256, 28)]
    for batch in (32, 128):
        for channels, size in ((128, 16), (256, 8), (512, 4)):
            cases.append(Case((cifar,), batch, channels // 2, 2 * size, channels, stride=2))
            both = (headline, cifar) if batch == 32 and channels < 512 else (cifar,)
            cases.append(_same(both, batch, channels, size))
    for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
        if channels > 64:
            cases.append(_same((imagenet,), 4, channels, 2 * size, stride=2))
        cases.append(_same((imagenet,), 4, channels, size))
    cases += [_same(('large',), 1, 64, 512), _same(('large',), 1, 64, 1024)]
    cases += [_same(('denoising',), 1, 1, 256, kernel=11), _same(('denoising',), 1, 1, 256, kernel=31)]
    cases += [_same(('depthwise',), 32, 128, 16, groups=128), _same(('depthwise',), 8, 64, 56, groups=64)]
    return cases


CASES = _cases()
HEADLINE = [case for case in CASES if 'headline' in case.topics]
#: of every kind one, made small
QUICK = [
    _same(('headline',), 4, 128, 16),
    Case(('resnet18-cifar',), 4, 128, 16, 256, stride=2),
    _same(('denoising',), 1, 1, 32, kernel=11),
    _same(('depthwise',), 4, 64, 16, groups=64),
]
#: large enough for threads to matter, and small ones, where they may not
THREADED = [*HEADLINE, QUICK[0], *(case for case in CASES if case.size == 512 or case.kernel == 11 or (case.batch, case.size) == (4, 7))]


def select(patterns: list[str], cases: list[Case]) -> list[Case]:
    """Those whose name contains, or whose topic is, one of ``patterns``; all without patterns."""
    chosen = [case for case in cases if not patterns or any(p in case.name or p in case.topics for p in patterns)]
    if not chosen:
        raise ValueError(
            f'no case matches {" ".join(patterns)}: choose from the topics {", ".join(TOPICS)}, or parts of {", ".join(c.name for c in cases)}'
        )
    return chosen

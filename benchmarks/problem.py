"""The tensors of a case, the same for every side."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metricconv_mm import geometry

from .cases import Case

SUPPORT = 'onion'
EPS = 1e-6
#: positions stay in float32 where the rest is narrower, as the layers keep them
POSITIONS = ('metric', 'offset', 'shift')


@dataclass(frozen=True)
class Problem:
    """``input``, ``weight``, ``grad`` (of the output), and where to sample: ``metric``, the same samples as ``offset``, and a ``shift``;
    ``predictor.weight`` and ``predictor.bias`` make a layer predict metrics as varied as ``metric``."""

    case: Case
    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @property
    def dtype(self) -> torch.dtype:
        return self['input'].dtype

    @property
    def device(self) -> torch.device:
        return self['input'].device

    def to(self, dtype: torch.dtype) -> Problem:
        precise = dtype if dtype == torch.float64 else torch.float32
        return replace(self, tensors={name: t.to(precise if name in POSITIONS else dtype) for name, t in self.tensors.items()})

    def crop(self, work: int) -> Problem:
        """A part of the images and of each image that takes no more than about ``work`` samples times channels."""
        batch, size = self.case.smaller(work)
        case = replace(self.case, batch=batch, size=size)
        sizes = {'input': size, **dict.fromkeys(('grad', *POSITIONS), case.output_size)}
        cropped = {name: self[name][:batch, :, :extent, :extent].contiguous() for name, extent in sizes.items()}
        return Problem(case, {**self.tensors, **cropped})

    def with_gradient_where(self, pixels: Tensor) -> Problem:
        """The gradient of the output set to zero outside ``pixels`` [N, Ho, Wo]."""
        return replace(self, tensors={**self.tensors, 'grad': self['grad'] * pixels.unsqueeze(1)})


def draw(case: Case, dtype: torch.dtype = torch.float32, device: str = 'cpu', seed: int = 0) -> Problem:
    """Normal numbers, with unit balls about as large as the kernel's window that differ from pixel to pixel."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    n, out = case.batch, case.output_size
    fan_in, r = case.channels * case.taps, float(case.radius)
    metric = geometry.encode_metric(normal(n, 7, out, out)) / torch.tensor([r * r, r * r, r * r, r, r]).view(5, 1, 1)
    samples = geometry.tangent_ball(metric, SUPPORT, case.kernel, EPS)
    grid = geometry.kernel_grid((case.kernel, case.kernel), (1, 1), metric)[..., None, None]
    tensors = {
        'input': normal(n, case.channels, case.size, case.size),
        'weight': normal(case.out_channels, case.channels // case.groups, case.kernel, case.kernel) * (case.groups / fan_in) ** 0.5,
        'metric': metric,
        'offset': (samples - grid).flip(2).flatten(1, 2),
        'shift': normal(n, 2, out, out),
        'predictor.weight': normal(7, case.channels, case.kernel, case.kernel) / fan_in**0.5,
        'predictor.bias': torch.zeros(7),
        'grad': normal(n, case.out_channels, out, out),
    }
    return Problem(case, {name: tensor.to(device) for name, tensor in tensors.items()}).to(dtype)

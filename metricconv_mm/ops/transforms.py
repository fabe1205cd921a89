"""How the parameters at an output pixel move the taps of its kernel: the only part in which the convolutions differ (Theorem 1).

Parameters are grouped, ``Tensor[N, G, C, Ho, Wo]``; samples are ``Tensor[N, G, K, 2, Ho, Wo]``, (x, y) displacements in pixels from the
centre of the kernel's window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..geometry import kernel_grid, scale_to_ball, scale_to_ball_vjp
from ..geometry.supports import Size2


@dataclass(frozen=True)
class Taps:
    """The kernel's grid, and the reference support of a metric."""

    kernel_size: Size2
    dilation: Size2
    reference: Tensor | None = None
    eps: float = 0.0

    def grid(self, like: Tensor) -> Tensor:
        return kernel_grid(self.kernel_size, self.dilation, like)


@dataclass(frozen=True)
class Transform:
    """A parameter of the operator and where it moves the taps.

    ``channels(K)`` are those of one group; ``samples`` is differentiable PyTorch and ``vjp(parameter, taps, grad)`` its hand-written gradient.
    ``norm`` is that of the unit ball that the taps of a reference support are scaled to.
    """

    parameter: str
    layout: str
    channels: Callable[[int], int]
    samples: Callable[[Tensor, Taps], Tensor]
    vjp: Callable[[Tensor, Taps, Tensor], Tensor]
    norm: str | None = None


def _ball(norm: str) -> Transform:
    def samples(metric: Tensor, taps: Taps) -> Tensor:
        assert taps.reference is not None
        return scale_to_ball(metric, taps.reference.to(metric.dtype), taps.eps, norm)

    def vjp(metric: Tensor, taps: Taps, grad: Tensor) -> Tensor:
        assert taps.reference is not None
        return scale_to_ball_vjp(metric, taps.reference.to(metric.dtype), taps.eps, grad, norm)

    return Transform('metric', 'm_xx, m_xy, m_yy, w_x, w_y', lambda taps: 5, samples, vjp, norm)


def _shifted(shift: Tensor, taps: Taps) -> Tensor:
    return taps.grid(shift)[..., None, None] + shift.flip(2).unsqueeze(2)


def _shifted_vjp(shift: Tensor, taps: Taps, grad: Tensor) -> Tensor:
    return grad.sum(2).flip(2)


def _offset(offset: Tensor, taps: Taps) -> Tensor:
    return taps.grid(offset)[..., None, None] + offset.unflatten(2, (-1, 2)).flip(3)


def _offset_vjp(offset: Tensor, taps: Taps, grad: Tensor) -> Tensor:
    return grad.flip(3).flatten(2, 3)


TRANSFORMS: dict[str, Transform] = {
    'metric_conv2d': _ball('randers'),
    'shifted_conv2d': Transform('shift', 'dy, dx', lambda taps: 2, _shifted, _shifted_vjp),
    'deform_conv2d': Transform('offset', 'dy, dx of every tap', lambda taps: 2 * taps, _offset, _offset_vjp),
    'matsumoto_conv2d': _ball('matsumoto'),
}
#: norm -> the operator that samples its unit ball
OPERATORS = {transform.norm: name for name, transform in TRANSFORMS.items() if transform.norm}
#: the operators as compiled kernels count them
KINDS = {name: kind for kind, name in enumerate(TRANSFORMS)}

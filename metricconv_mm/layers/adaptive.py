"""What all adaptive convolutions share: kernel, predictor, mask, padding, checkpoints."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import functional
from ..geometry import kernel_grid, pair
from ..geometry.supports import Size2
from .predictor import Predictor

IntPair = int | Sequence[int]
KERNEL_INITS = ('uniform', 'kaiming')
PREDICTOR_INITS = ('paper', 'identity')
# asked once: torch.compile cannot ask
AUTOCAST_DEVICES = tuple(device for device in ('cpu', 'cuda', 'xpu', 'mps') if torch.amp.is_autocast_available(device))
PADDING_MODES = ('zeros', 'reflect', 'replicate', 'circular')


def precise_positions(tensor: Tensor) -> AbstractContextManager:
    """No autocast inside: half a mantissa is not enough for positions."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if device in AUTOCAST_DEVICES else nullcontext()


class AdaptiveConv2d(nn.Module):
    """A convolution whose taps lie where a predictor says: out = sum_k weight[k] mask[k] bilinear(input, centre + samples[k]) + bias.

    A new convolution is a subclass with two methods: :meth:`predictor_channels` and :meth:`samples_from` (where the taps lie, in differentiable
    PyTorch); ``initialise_predictor`` sets where it starts. Sampling, contraction, gradients and backends come with it.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as nn.Conv2d's. Samples beyond the padded
            border read 0. 'same' goes with a stride, too, and pads as TensorFlow and timm do.
        fixed_kernel: every weight is 1 / (K C_in / groups): no parameter, not in the state_dict, and not replaced by a checkpoint's.
        kernel_init: 'kaiming', nn.Conv2d's, or 'uniform', the paper's 1 / (K C_in / groups) everywhere and bias 0: all output channels then start
            alike, and where nothing else differs between them (shifted and deformable networks from scratch) they stay so.
        predictor_init: 'paper', or 'identity': sampling starts as the undeformed kernel.
        parameter_groups: how many groups of input channels have samples of their own.
        modulation: predict a factor 2 sigmoid(.) for every sample, 1 at the start.

    Shapes:
        ``Tensor[N, C_in, H, W]`` or ``Tensor[C_in, H, W]`` to ``Tensor[N, C_out, Ho, Wo]`` or ``Tensor[C_out, Ho, Wo]``.
    """

    transposed = False
    output_padding = (0, 0)
    weight: Tensor
    bias: nn.Parameter | None
    #: whether a 1 x 1 kernel has anything to adapt; if not, configs keep nn.Conv2d there
    adapts_single_tap: ClassVar[bool] = True
    #: the constructor's word for parameter_groups
    groups_argument: ClassVar[str] = 'parameter_groups'

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair | str = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = 'zeros',
        *,
        fixed_kernel: bool = False,
        kernel_init: str = 'kaiming',
        predictor_init: str = 'paper',
        parameter_groups: int = 1,
        modulation: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **unknown: Any,
    ) -> None:
        self.check_options(unknown)
        super().__init__()
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, padding_mode
        self.kernel_size, self.stride, self.dilation = pair(kernel_size), pair(stride), pair(dilation)
        self.padding: Size2 | str = padding if isinstance(padding, str) else pair(padding)
        self.fixed_kernel, self.kernel_init, self.predictor_init = fixed_kernel, kernel_init, predictor_init
        self.parameter_groups, self.modulation = parameter_groups, modulation
        self._check_arguments()

        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        kernel = torch.empty(out_channels, in_channels // groups, *self.kernel_size, **factory)
        if fixed_kernel:
            self.register_buffer('weight', kernel, persistent=False)
        else:
            self.weight = nn.Parameter(kernel)
        self.register_parameter('bias', nn.Parameter(torch.empty(out_channels, **factory)) if bias else None)
        channels = parameter_groups * (self.predictor_channels() + (self.taps if modulation else 0))
        self.predictor = Predictor(in_channels, channels, self.kernel_size, **factory)
        self.reset_parameters()

    # --- what a convolution defines -------------------------------------------------------------------------------------------

    def predictor_channels(self) -> int:
        """Raw channels that one parameter group needs."""
        raise TypeError(f'{type(self).__name__} must define predictor_channels()')

    def samples_from(self, raw: Tensor) -> Tensor:
        """Raw channels ``Tensor[N * G, channels, Ho, Wo]`` to samples ``Tensor[N * G, K, 2, Ho, Wo]``: (x, y) in pixels from the window's centre."""
        raise TypeError(f'{type(self).__name__} must define samples_from(raw)')

    def initialise_predictor(self, group: int, start: int) -> None:
        """Initialise the predictor's channels of one parameter group, the first of which is ``start``; all zero unless overridden."""
        self.predictor.initialise(start, 'z' * self.predictor_channels())

    def convolve(self, input: Tensor, raw: Tensor, mask: Tensor | None, padding: Size2) -> Tensor:
        """The operator, for raw channels [N, G * channels, Ho, Wo]: here by way of one offset a tap; a fused operator can do better."""
        samples = self._grouped_samples(raw).unflatten(1, (self.parameter_groups, self.taps))
        offset = (samples - self.grid(samples)).flip(3).flatten(1, 3)
        return functional.deform_conv2d(input, offset, self.weight, self.bias, mask=mask, padding=padding, **self._geometry())

    # --- shared -----------------------------------------------------------------------------------------------------------------

    @classmethod
    def options(cls) -> list[str]:
        """The keyword arguments that the constructor takes beside those of nn.Conv2d."""
        kinds = (p for base in cls.__mro__ if issubclass(base, AdaptiveConv2d) for p in inspect.signature(base.__init__).parameters.values())
        return sorted({p.name for p in kinds if p.kind is p.KEYWORD_ONLY})

    @classmethod
    def check_options(cls, given: Iterable[str]) -> None:
        """Raise TypeError for options that the layer does not have, with those that it has."""
        unknown = sorted(set(given) - set(cls.options()))
        if unknown:
            raise TypeError(f'{cls.__name__} has no option {", ".join(unknown)}: choose from {", ".join(cls.options())}')

    @property
    def taps(self) -> int:
        return self.kernel_size[0] * self.kernel_size[1]

    def reset_parameters(self) -> None:
        """Initialise kernel, bias and predictor as the constructor does."""
        if self.fixed_kernel or self.kernel_init == 'uniform':
            nn.init.constant_(self.weight, 1 / (self.taps * self.in_channels // self.groups))
            if self.bias is not None:
                nn.init.zeros_(self.bias)
        else:
            nn.init.kaiming_uniform_(self.weight, a=5**0.5)
            if self.bias is not None:
                bound = (self.taps * self.in_channels // self.groups) ** -0.5
                nn.init.uniform_(self.bias, -bound, bound)
        channels = self.predictor_channels()
        for group in range(self.parameter_groups):
            self.initialise_predictor(group, group * channels)
        if self.modulation:
            self.predictor.initialise(self.parameter_groups * channels, 'z' * (self.parameter_groups * self.taps))

    def init_weights(self) -> None:
        """Keep what the constructor or a checkpoint set: mmcv's ConvModule leaves alone what has this method, and re-initialises the rest."""

    def forward(self, input: Tensor) -> Tensor:
        batched = self._batched(input)
        padded, padding = self._pad(batched)
        raw, mask = self._predict(padded, padding)
        out = self.convolve(padded, raw, mask, padding)
        return out if input.dim() == 4 else out.squeeze(0)

    def samples(self, input: Tensor) -> Tensor:
        """Where the layer samples ``input``: ``Tensor[N, G * K, 2, Ho, Wo]``, (x, y) in pixels from the centre of each output pixel's window."""
        return self._grouped_samples(self._predict(*self._pad(self._batched(input)))[0])

    def _grouped_samples(self, raw: Tensor) -> Tensor:
        grouped = raw.reshape(raw.shape[0] * self.parameter_groups, self.predictor_channels(), *raw.shape[2:])
        with precise_positions(raw):
            samples = self.samples_from(grouped if grouped.dtype == torch.float64 else grouped.float())
        return samples.reshape(raw.shape[0], self.parameter_groups * self.taps, *samples.shape[2:])

    def _predict(self, padded: Tensor, padding: Size2) -> tuple[Tensor, Tensor | None]:
        raw = self.predictor(padded, self.stride, padding, self.dilation)
        if not self.modulation:
            return raw, None
        raw, mask = raw.split([self.parameter_groups * self.predictor_channels(), self.parameter_groups * self.taps], 1)
        return raw, 2 * mask.sigmoid()

    def _geometry(self) -> dict[str, Any]:
        return {'stride': self.stride, 'dilation': self.dilation, 'groups': self.groups}

    def grid(self, like: Tensor) -> Tensor:
        """``Tensor[K, 2, 1, 1]``: (x, y) of the undeformed taps."""
        return kernel_grid(self.kernel_size, self.dilation, like)[..., None, None]

    def _batched(self, input: Tensor) -> Tensor:
        if input.dim() not in (3, 4) or input.shape[-3] != self.in_channels:
            raise ValueError(f'{type(self).__name__}: expected input [N, {self.in_channels}, H, W] or [{self.in_channels}, H, W], got {input.shape=}')
        if not input.is_floating_point():
            raise TypeError(f'{type(self).__name__}: expected a floating point input, got {input.dtype=}')
        device = input.device.type
        if device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device) and input.dtype != torch.float64:
            # once: predictor and operator would each cast it, and each keep its copy for the backward pass
            input = input.to(torch.get_autocast_dtype(device))
        return input if input.dim() == 4 else input.unsqueeze(0)

    def padded_sides(self, input: Tensor) -> tuple[Size2, Size2]:
        """Rows (above, below) and columns (left, right) that padding adds; 'same' adds what ceil(size / stride) outputs need, as TensorFlow's."""
        if self.padding == 'same':
            geometry = zip(input.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True)
            totals = [max(d * (k - 1) - (size - 1) % s, 0) if s > 1 else d * (k - 1) for size, k, s, d in geometry]
            return (totals[0] // 2, totals[0] - totals[0] // 2), (totals[1] // 2, totals[1] - totals[1] // 2)
        rows, columns = (0, 0) if isinstance(self.padding, str) else self.padding
        return (rows, rows), (columns, columns)

    def _pad(self, input: Tensor) -> tuple[Tensor, Size2]:
        """The input, padded here where the operator's zero padding does not do, and the padding left to the operator."""
        rows, columns = self.padded_sides(input)
        if self.padding_mode == 'zeros' and rows[0] == rows[1] and columns[0] == columns[1]:
            return input, (rows[0], columns[0])
        mode = 'constant' if self.padding_mode == 'zeros' else self.padding_mode
        return nn.functional.pad(input, (*columns, *rows), mode=mode), (0, 0)

    def _check_arguments(self) -> None:
        name = type(self).__name__
        for what, least, value in (
            ('in_channels', 1, self.in_channels),
            ('stride', 1, self.stride),
            ('padding', 0, self.padding),
            ('dilation', 1, self.dilation),
        ):
            if not isinstance(value, str) and min(value if isinstance(value, tuple) else (value,)) < least:
                raise ValueError(f'{name}: expected {what} of at least {least}, got {what}={value}')
        for what, count in (('groups', self.groups), (self.groups_argument, self.parameter_groups)):
            if count < 1 or self.in_channels % count:
                raise ValueError(f'{name}: expected {what} to divide in_channels={self.in_channels}, got {what}={count}')
        if self.out_channels % self.groups:
            raise ValueError(f'{name}: expected groups to divide out_channels={self.out_channels}, got groups={self.groups}')
        for what, value, valid in (
            ('kernel_init', self.kernel_init, KERNEL_INITS),
            ('predictor_init', self.predictor_init, PREDICTOR_INITS),
            ('padding_mode', self.padding_mode, PADDING_MODES),
        ):
            if value not in valid:
                raise ValueError(f'{name}: unknown {what} {value!r}: choose one of {valid}')
        if isinstance(self.padding, str) and self.padding not in ('same', 'valid'):
            raise ValueError(f"{name}: expected padding as integers, 'same' or 'valid', got padding={self.padding!r}")

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        """A plain convolution's checkpoint loads too: the predictor then stays as it is, and so does a fixed kernel."""
        if f'{prefix}weight' in state_dict and f'{prefix}predictor.weight' not in state_dict:
            if self.predictor_init != 'identity':
                warnings.warn(
                    f'{prefix.rstrip(".") or type(self).__name__}: this is the checkpoint of a plain convolution, made for the '
                    "undeformed grid, but sampling starts elsewhere. To start from what it computed, use support='grid' or predictor_init='identity'",
                    stacklevel=2,
                )
            for name, tensor in self.predictor.state_dict().items():
                state_dict.setdefault(f'{prefix}predictor.{name}', tensor)
        if self.fixed_kernel:
            state_dict.pop(f'{prefix}weight', None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]

    def extra_repr(self) -> str:
        parts = [f'{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}']
        defaults = {'padding': (0, 0), 'dilation': (1, 1), 'groups': 1, 'padding_mode': 'zeros', 'fixed_kernel': False, 'modulation': False}
        parts += [f'{key}={getattr(self, key)}' for key, default in defaults.items() if getattr(self, key) != default]
        if self.parameter_groups != 1:
            parts.append(f'{self.groups_argument}={self.parameter_groups}')
        return ', '.join(parts + ([] if self.bias is not None else ['bias=False']))

"""Random calls of the operators, drawn so that the shape of a call decides and no sample lies where rounding does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metricconv_mm import use_backend
from metricconv_mm.geometry import encode_metric, reference_support
from metricconv_mm.ops import reference
from metricconv_mm.ops.call import Call
from metricconv_mm.ops.transforms import TRANSFORMS

FAR = (1e30, -1e30, 3e9, -3e9, math.inf, -math.inf)
LAYOUTS = ('contiguous', 'channels_last', 'sliced', 'transposed', 'unaligned', 'expanded')
WHICH = ('input', 'parameter', 'weight', 'bias', 'mask')
Pair = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """A call of an operator, but for the numbers."""

    name: str = 'deform_conv2d'
    images: int = 2
    size: Pair = (6, 7)
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    dilation: Pair = (1, 1)
    inputs: int = 8
    """channels of a group of the weight"""
    outputs: int = 8
    groups: int = 1
    parameter_groups: int = 1
    support: str = 'polar'
    dtype: torch.dtype = torch.float64
    precise_parameter: bool = False
    """in float32, whatever the rest is in"""
    masked: bool = True
    biased: bool = True
    spread: float = 2.0
    positions: str = 'inside'
    """or 'far', 'nan': what becomes of a few of them"""
    spoiled: float | None = None
    """what becomes of a few pixels of the input"""
    layouts: tuple[str, ...] = ('contiguous',) * 6
    """of the tensors WHICH, and of the incoming gradient"""
    needs: tuple[bool, ...] = (True,) * 5
    threads: int = 1
    seed: int = 0

    @property
    def channels(self) -> int:
        return self.inputs * self.groups

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def output(self) -> Pair:
        rows, columns = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, padding, dilation, kernel, stride in zip(self.size, self.padding, self.dilation, self.kernel, self.stride, strict=True)
        )
        return rows, columns

    @property
    def norm(self) -> str | None:
        return TRANSFORMS[self.name].norm

    def parameter_dtype(self) -> torch.dtype:
        return torch.float32 if self.precise_parameter else self.dtype


#: every path of the C++ kernels, whose tiles are 128 pixels and whose vectors hold 2 to 16 numbers
LOPSIDED = [
    Case(inputs=37, outputs=45, parameter_groups=1, images=3, size=(9, 7), name='metric_conv2d'),
    Case(inputs=40, outputs=70, parameter_groups=5, dtype=torch.float32, size=(13, 11), kernel=(3, 2), stride=(2, 1), layouts=('channels_last',) * 6),
    Case(inputs=3, outputs=5, images=3, size=(9, 7), dtype=torch.float32),
    Case(inputs=6, outputs=4, parameter_groups=6, size=(12, 13), name='metric_conv2d', layouts=('channels_last',) * 6),
    Case(inputs=5, outputs=3, groups=4, parameter_groups=2, name='shifted_conv2d', size=(12, 13), dilation=(1, 2)),
    Case(inputs=3, outputs=2, groups=2, parameter_groups=3, dtype=torch.float32, size=(12, 13)),
    Case(inputs=17, outputs=33, groups=2, dtype=torch.float32, name='metric_conv2d'),
    Case(inputs=1, outputs=1, groups=29, dtype=torch.float32, images=3),
    Case(inputs=1, outputs=1, groups=28, parameter_groups=14, name='metric_conv2d', masked=False),
    Case(inputs=1, outputs=3, groups=11, dtype=torch.float32, biased=False),
    Case(inputs=3, outputs=7, dtype=torch.bfloat16, kernel=(5, 5)),
    Case(inputs=35, outputs=19, dtype=torch.bfloat16, name='metric_conv2d', layouts=('channels_last',) * 6),
    Case(inputs=9, outputs=10, dtype=torch.float16, precise_parameter=True, name='shifted_conv2d'),
    Case(inputs=37, outputs=21, parameter_groups=1, images=3, size=(9, 7), name='matsumoto_conv2d'),
    Case(inputs=3, outputs=5, parameter_groups=3, size=(12, 13), dtype=torch.float32, name='matsumoto_conv2d', layouts=('channels_last',) * 6),
]


def rotated_support(case: Case) -> Tensor:
    """The support turned by an angle, so that no direction is along an axis, where a sample lies on a pixel's edge."""
    support = reference_support(case.support, case.kernel, case.dilation)
    x, y, radius = support.unbind(1)
    cosine, sine = math.cos(0.3), math.sin(0.3)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y, radius], 1)


class Problem:
    """The tensors of a case, and the operator run with them in any dtype."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.generator = torch.Generator().manual_seed(case.seed)
        n, output, groups = case.images, case.output, case.parameter_groups
        self.support = rotated_support(case).float() if case.norm else None
        weight = self.normal(case.outputs * case.groups, case.inputs, *case.kernel)
        tensors = [
            self.normal(n, case.channels, *case.size),
            self.parameter(),
            weight / math.sqrt(case.inputs * case.taps),
            self.normal(case.outputs * case.groups) if case.biased else None,
            self.normal(n, groups * case.taps, *output) if case.masked else None,
            self.normal(n, case.outputs * case.groups, *output),
        ]
        self.lost = torch.zeros(n, groups, *output, dtype=torch.bool)
        """output pixels with positions that are not numbers"""
        self.spoil(tensors)
        for i, layout in enumerate(case.layouts):
            if layout == 'expanded' and tensors[i] is not None:
                tensors[i] = tensors[i][:1].expand(tensors[i].shape)
                self.lost = self.lost[:1].expand(self.lost.shape) if i == 1 else self.lost
        dtypes = [case.parameter_dtype() if i == 1 else case.dtype for i in range(6)]
        self.tensors = [None if t is None else t.to(dtype).double() for t, dtype in zip(tensors, dtypes, strict=True)]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=self.generator)

    def parameter(self) -> Tensor:
        case, (rows, columns) = self.case, self.case.output
        shape = (case.images, case.parameter_groups)
        if case.norm is None:
            count = case.taps if case.name == 'deform_conv2d' else 1
            # odd sixteenths, which every dtype holds: between the pixels in all of them
            steps = (8 * case.spread * self.normal(*shape, 2 * count, rows, columns)).clamp(-126, 126).floor()
            return ((2 * steps + 1) / 16).flatten(1, 2)
        metric = torch.empty(*shape, 5, rows, columns, dtype=torch.float64)
        again = torch.ones(*shape, rows, columns, dtype=torch.bool)
        while again.any():
            raw = self.normal(*shape, 7, rows, columns).flatten(0, 1)
            drawn = encode_metric(raw, 'spectral_scaled', 'clip_detached', eps_w=0.3, scale_range=(0.3, 2 * case.spread), norm=case.norm)
            drawn = drawn.unflatten(0, shape).to(case.parameter_dtype()).double()
            metric = torch.where(again.unsqueeze(2), drawn, metric)
            again &= self.near_edges(metric)
        return metric.flatten(1, 2)

    def near_edges(self, metric: Tensor) -> Tensor:
        """``[N, G, Ho, Wo]``: whether rounding could decide between which pixels one of the samples lies."""
        call = self.call([torch.empty(metric.shape[0], self.case.channels, *self.case.size), metric.flatten(1, 2), None, None, None])
        moved = reference.samples(call) % 1
        centre = torch.tensor([d * (k - 1) / 2 % 1 for d, k in zip(self.case.dilation, self.case.kernel, strict=True)]).flip(0)
        distance = ((moved + centre.view(2, 1, 1) + 0.5) % 1 - 0.5).abs()
        radius = self.support[:, 2].view(-1, 1, 1, 1)  # type: ignore[index]
        return ((distance < 1e-3) & (radius > 0)).flatten(2, 3).any(2)

    def spoil(self, tensors: list) -> None:
        case, few = self.case, 3
        input, parameter = tensors[:2]
        if case.spoiled is not None and input.numel():
            input = input.clone()
            input.view(-1)[torch.randint(input.numel(), (few,), generator=self.generator)] = case.spoiled
        if case.positions != 'inside' and parameter.numel():
            parameter = parameter.clone().unflatten(1, (case.parameter_groups, -1))
            for _ in range(few):
                n, group, channel, row, column = (int(torch.randint(size, (), generator=self.generator)) for size in parameter.shape)
                if case.positions == 'nan':
                    parameter[n, group, channel, row, column] = math.nan
                    self.lost[n, group, row, column] = True
                elif case.norm:
                    parameter[n, group, :, row, column] = 0.0
                else:
                    parameter[n, group, channel, row, column] = FAR[int(torch.randint(len(FAR), (), generator=self.generator))]
            parameter = parameter.flatten(1, 2)
        tensors[:2] = input, parameter

    def call(self, tensors: list) -> Call:
        case = self.case
        weight = torch.empty(case.outputs * case.groups, case.inputs, *case.kernel, dtype=torch.float64, device='meta')
        support = None if self.support is None else self.support.double()
        geometry = (case.stride, case.padding, case.dilation)
        return Call(case.name, tensors[0], tensors[1], weight, None, None, support, 1e-6, *geometry, case.groups)

    def run(self, dtype: torch.dtype | None = None, device: str = 'cpu') -> tuple[Tensor, list[Tensor | None]]:
        """(output, gradients) as the case says, or plainly laid out in ``dtype``."""
        case = self.case
        leaves: list[Tensor | None] = []
        for i, tensor in enumerate(self.tensors):
            if tensor is not None and dtype is None:
                tensor = laid_out(tensor.to(case.parameter_dtype() if i == 1 else case.dtype), case.layouts[i])
            elif tensor is not None:
                tensor = tensor.contiguous().to(torch.promote_types(dtype, case.parameter_dtype()) if i == 1 else dtype)
            leaves.append(None if tensor is None else tensor.to(device).detach().requires_grad_(i < 5 and case.needs[i]))
        support = () if self.support is None else (self.support.to(device), 1e-6)
        operator = getattr(torch.ops.metricconv_mm, case.name)
        out = operator(*leaves[:5], *support, case.stride, case.padding, case.dilation, case.groups)
        wanted = [t for t in leaves[:5] if t is not None and t.requires_grad]
        found = iter(torch.autograd.grad(out, wanted, leaves[5]) if wanted else ())
        return out, [next(found) if t is not None and t.requires_grad else None for t in leaves[:5]]


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same numbers elsewhere in memory, with NaN around."""
    if layout == 'expanded':
        return tensor[:1].clone().expand(tensor.shape)
    tensor = tensor.contiguous()
    if layout == 'channels_last' and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == 'sliced':
        return torch.stack([tensor, torch.full_like(tensor, math.nan)], -1)[..., 0]
    if layout == 'transposed' and tensor.dim() == 4:
        return tensor.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == 'unaligned':
        memory = tensor.new_full((tensor.numel() + 2,), math.nan)
        memory[1:-1] = tensor.flatten()
        return memory[1:-1].view(tensor.shape)
    return tensor


def assert_as_exact(which: str, ours: Tensor, plain: Tensor, exact: Tensor, stored: float, summed: float) -> None:
    """Not finite where the reference is not, and elsewhere with no more than thrice its error, given the eps of what is stored and summed."""
    ours, plain = ours.double(), plain.double()
    assert torch.equal(ours.isnan(), plain.isnan()) and torch.equal(ours[ours.isinf()], plain[plain.isinf()]), f'{which}: NaN or inf elsewhere'
    finite = plain.isfinite() & exact.isfinite()
    if finite.any():
        error, usual = ((t - exact)[finite].abs().max().item() for t in (ours, plain))
        scale = exact[finite].abs().max().item()
        allowed = 3 * usual + stored * scale + 256 * summed * (1 + scale)
        assert error <= allowed, f'{which}: an error of {error}, allowed {allowed}'


def described(tensor: Tensor) -> tuple[torch.Size, torch.dtype, list[int]]:
    """Shape, dtype, and the strides that tell one element from another."""
    strides = [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1 and tensor.numel()]
    return tensor.shape, tensor.dtype, strides


def check(case: Case) -> None:
    """Compare the backend in use with the reference, and with what meta tensors promise."""
    problem = Problem(case)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(case.threads)
        out, grads = problem.run()
    finally:
        torch.set_num_threads(before)
    with use_backend('reference'):
        plain, plain_grads = problem.run(case.dtype)
        exact, exact_grads = problem.run(torch.float64)
    summed = torch.float64 if case.dtype == case.parameter_dtype() == torch.float64 else torch.float32
    eps = torch.finfo(case.dtype).eps, torch.finfo(summed).eps
    assert_as_exact('output', out, plain, exact, *eps)
    for which, *found in zip(WHICH, grads, plain_grads, exact_grads, strict=True):
        if found[0] is None:
            continue
        # of a position that is not a number, no slope is promised, nor where in its image the gradient goes
        if which == 'input':
            found = [g[~problem.lost.flatten(1).any(1)] for g in found]
        if which == 'parameter':
            found = [g.unflatten(1, (case.parameter_groups, -1)).movedim(2, 0)[:, ~problem.lost] for g in found]
        assert_as_exact(which, *found, *eps)
    promised, promised_grads = problem.run(device='meta')
    for which, one, other in zip(('output', *WHICH), (out, *grads), (promised, *promised_grads), strict=True):
        if one is not None:
            assert described(one) == described(other), f'{which} is not as on meta'

"""Pretrained weights from a file into a model, whichever library's names they bear, with a report of what became of every tensor."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .layers import AdaptiveConv2d
from .surgery import matches

#: what wraps a network of the same names: DataParallel, torch.compile, mmpretrain's and mmdet's classifiers and detectors, torchvision's detectors
WRAPPERS = ('module.', '_orig_mod.', 'model.', 'backbone.', 'timm_model.', 'body.')
#: mmpretrain's name of the classifier is torchvision's and timm's after these prefixes
RENAMED = {'head.fc.': 'fc.'}
HEAD = re.compile(r'(fc|head|heads|classifier)\.')
STATE_KEYS = ('state_dict', 'model_state_dict', 'model')


@dataclass
class Transfer:
    """What became of the tensors of a checkpoint and of a model, by their own names."""

    loaded: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)  #: of the checkpoint, and why
    initialised: dict[str, str] = field(default_factory=dict)  #: of the model, which keep their own initialisation, and why

    def __str__(self) -> str:
        lines = [f'loaded {len(self.loaded)} tensors']
        for what, names in (('dropped', self.dropped), ('newly initialised', self.initialised)):
            for why, count in Counter(names.values()).items():
                lines.append(f'{what} {count} ({why}): {_some([name for name, reason in names.items() if reason == why])}')
        return '\n'.join(lines)


def read_checkpoint(path: str | Path) -> Any:
    """What a .pth or .safetensors file holds, on the CPU. Objects that are no tensors and no plain Python come as inert stand-ins: no code of the
    file runs.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it cannot be read, for example because it is cut short.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint {str(path)!r}')
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            return load_file(path)
        try:
            return torch.load(path, map_location='cpu', weights_only=True)
        except pickle.UnpicklingError:
            unknown = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
            with torch.serialization.safe_globals([(type(name.rpartition('.')[2], (_Inert,), {}), name) for name in unknown]):
                return torch.load(path, map_location='cpu', weights_only=True)
    except ImportError as error:
        raise ImportError(f'{path} needs safetensors: pip install safetensors') from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f'{path} is no checkpoint that torch can read, perhaps cut short ({reason}): copy it again') from error


class _Inert:
    """Stands for an object of a class that checkpoints may not bring along, such as the log that mmengine stores beside the weights."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def weights_of(checkpoint: Any, source: str = 'the checkpoint') -> dict[str, Tensor]:
    """The state_dict in what a file holds: itself, or its entry 'state_dict', 'model_state_dict' or 'model'.

    Raises:
        ValueError: when there is none.
    """
    found = checkpoint
    for key in STATE_KEYS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            found = checkpoint[key]
            break
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        holds = f'entries {_some([str(key) for key in found])}' if isinstance(found, Mapping) else f'a {type(found).__name__}'
        raise ValueError(f'{source} holds no state_dict but {holds}: save model.state_dict()')
    return tensors


def load_pretrained(
    model: nn.Module,
    source: str | Path | Mapping[str, Tensor],
    *,
    part: str | None = None,
    drop: str | Sequence[str] = (),
    keep_kernels: bool = True,
) -> Transfer:
    """Load weights of torchvision, timm, mmpretrain or of this package, matching names across the libraries, and say what became of each tensor.

    All must fit but what is new in the model (predictors), a classifier of another number of classes, and what is dropped on purpose: a checkpoint of
    another network is refused, and then the model is unchanged.

    Args:
        source: a file, or a state_dict.
        part: the part of the model that the weights are for, such as 'backbone' of a detector. The rest keeps its initialisation, and a classifier in
            ``source`` is dropped.
        drop: patterns, as :func:`~metricconv_mm.surgery.select` takes, of tensors to leave out, of the checkpoint or of the model.
        keep_kernels: load the kernels and biases of adaptive layers, too; False leaves them as they are initialised.

    Raises:
        FileNotFoundError, ValueError: for files that cannot be read, and weights of another network, with the names that do not fit.
    """
    origin = str(source) if isinstance(source, str | Path) else 'the state_dict'
    weights = weights_of(read_checkpoint(source) if isinstance(source, str | Path) else source, origin)
    target = _part(model, part)
    wanted = target.state_dict()
    patterns = [drop] if isinstance(drop, str) else list(drop)
    kernels = _kernels(target, fixed_only=keep_kernels)
    theirs, ours = _canonical(weights), _canonical({**wanted, **kernels})
    new, headless = _new(target), bool(part) or not any(map(HEAD.match, ours))
    report, fitting = Transfer(), {}
    problems: dict[str, list[str]] = {'missing in it': [], 'of another shape': [], 'unknown to the model': []}
    for key in dict.fromkeys([*ours, *theirs]):
        name, given = ours.get(key, ''), theirs.get(key, '')
        why = kernels.get(name, '')
        if why:
            pass
        elif not given and name in new:
            why = 'new in this model'
        elif any(n and matches(p, n) for p in patterns for n in (name, given)):
            why = 'to be dropped'
        elif not name and headless and HEAD.match(key):
            why = 'no classifier here'
        elif not name:
            problems['unknown to the model'].append(given)
        elif not given:
            problems['missing in it'].append(name)
        elif (here := tuple(wanted[name].shape)) == (there := tuple(weights[given].shape)):
            fitting[name] = weights[given]
        elif HEAD.match(key) and here[1:] == there[1:]:
            why = f'{there[0]} classes there, {here[0]} here'
        else:
            problems['of another shape'].append(f'{name} {here} here, {there} there')
        if why and name in wanted:
            report.initialised[name] = why
        if why and given:
            report.dropped[given] = why
    if any(problems.values()):
        lines = [f'  {len(names)} {kind}: {_some(names)}' for kind, names in problems.items() if names]
        remedy = "Give the weights of this network, part='backbone' for weights of a part of it, or drop=[...] for what to leave out"
        raise ValueError('\n'.join([f'{origin} holds the weights of another network:', *lines, remedy]))
    target.load_state_dict(fitting, strict=False)
    report.loaded = list(fitting)
    if part:
        inside = f'{part}.'
        report.loaded, report.initialised = [inside + n for n in report.loaded], {inside + n: why for n, why in report.initialised.items()}
        report.initialised.update({name: f'outside {part}' for name in model.state_dict() if not name.startswith(inside)})
    return report


def _part(model: nn.Module, part: str | None) -> nn.Module:
    try:
        return model.get_submodule(part or '')
    except AttributeError as error:
        raise ValueError(f'the model has no {part=}: its parts are {_some([name for name, _ in model.named_children()])}') from error


def _canonical(tensors: Iterable[str]) -> dict[str, str]:
    """Names by what they have in common in all libraries; those that would then be the same keep their own."""
    short = {}
    for name in tensors:
        key = name
        while wrapper := next((w for w in WRAPPERS if key.startswith(w)), None):
            key = key.removeprefix(wrapper)
        short[name] = next((new + key.removeprefix(old) for old, new in RENAMED.items() if key.startswith(old)), key)
    shared = Counter(short.values())
    return {key if shared[key] == 1 else name: name for name, key in short.items()}


def _kernels(model: nn.Module, fixed_only: bool) -> dict[str, str]:
    """Kernels and biases of adaptive layers that are not to be loaded, and why."""
    found = {}
    for prefix, layer in model.named_modules():
        if isinstance(layer, AdaptiveConv2d) and (layer.fixed_kernel or not fixed_only):
            names = ['weight', *(['bias'] if layer.bias is not None and not fixed_only else [])]
            why = 'the kernel is fixed' if layer.fixed_kernel else 'a kernel made for another sampling'
            found.update({f'{prefix}.{name}'.lstrip('.'): why for name in names})
    return found


def _new(model: nn.Module) -> set[str]:
    """What checkpoints of plain networks lack: predictors, and the batch counters that old versions of torch did not store."""
    new = {name for name in model.state_dict() if name.endswith('num_batches_tracked')}
    for prefix, layer in model.named_modules():
        if isinstance(layer, AdaptiveConv2d):
            new |= {f'{prefix}.predictor.{name}'.lstrip('.') for name in ('weight', 'bias')}
    return new


def _some(names: Sequence[str], shown: int = 4) -> str:
    return ', '.join(names[:shown]) + (f', ... ({len(names)} in all)' if len(names) > shown else '') or 'none'

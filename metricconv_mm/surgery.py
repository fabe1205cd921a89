"""Which convolutions of a model to replace, and replacing them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from .geometry import pair
from .layers import CONVOLUTIONS, AdaptiveConv2d

logger = logging.getLogger(__name__)

Layers = str | Sequence[str] | Callable[[str, nn.Conv2d], bool] | None
#: classes whose forward is nn.Conv2d's with other arguments
EQUIVALENTS: dict[str, dict[str, Any]] = {
    'mmcv.cnn.bricks.wrappers.Conv2d': {},  # adds empty batches in old versions of torch
    'mmcv.cnn.bricks.conv2d_adaptive_padding.Conv2dAdaptivePadding': {'padding': 'same'},
    'timm.layers.conv2d_same.Conv2dSame': {'padding': 'same'},
    'timm.layers.conv2d_same.Conv2dSameExport': {'padding': 'same'},
}
CALL_HOOKS = (
    '_forward_hooks', '_forward_hooks_with_kwargs', '_forward_hooks_always_called', '_forward_pre_hooks', '_forward_pre_hooks_with_kwargs',
    '_backward_hooks', '_backward_pre_hooks', '_is_full_backward_hook',
)  # fmt: skip
STATE_HOOKS = ('_state_dict_hooks', '_state_dict_pre_hooks', '_load_state_dict_pre_hooks', '_load_state_dict_post_hooks')
ARGUMENTS = ('in_channels', 'out_channels', 'kernel_size', 'stride', 'padding', 'dilation', 'groups', 'padding_mode')


def resolve(conv: str | type[nn.Module]) -> type[nn.Module]:
    """The class of a convolution by its registered name or its own; 'Conv2d' is nn.Conv2d.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    if isinstance(conv, type):
        return conv
    known = {**CONVOLUTIONS, **{cls.__name__: cls for cls in CONVOLUTIONS.values()}, 'Conv2d': nn.Conv2d}
    if conv not in known:
        raise ValueError(f'unknown {conv=}: choose one of {sorted([*CONVOLUTIONS, "Conv2d"])}')
    return known[conv]


def convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """Every nn.Conv2d of the model with its name."""
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Conv2d):
            yield name, module


def select(model: nn.Module, layers: Layers = None, kernel_sizes: Sequence[int | tuple[int, int]] | int | None = None) -> dict[str, nn.Conv2d]:
    """The convolutions of ``model`` that ``layers`` and ``kernel_sizes`` choose, by name.

    Args:
        layers: a name, the name of a part ('layer4'), a regular expression that matches one of these from any dot on (r'layer[2-4]', r'conv2'), a
            list of them, or a function (name, module) -> bool. None is the whole model.
        kernel_sizes: the kernels to choose, such as 3 or [3, (1, 7)]. None is all but 1 x 1.

    Raises:
        ValueError: when nothing matches, or one pattern of several does not, with the names that exist. What matches adaptive convolutions alone
            is no error: they are what they should be, and are not returned.
    """
    candidates = dict(convolutions(model))
    adaptive = {name: layer for name, layer in model.named_modules(remove_duplicate=False) if isinstance(layer, AdaptiveConv2d)}
    sizes = None if kernel_sizes is None else {pair(size) for size in ([kernel_sizes] if isinstance(kernel_sizes, int) else kernel_sizes)}

    def sized(layer: nn.Conv2d | AdaptiveConv2d) -> bool:
        return layer.kernel_size != (1, 1) if sizes is None else layer.kernel_size in sizes

    eligible = [name for name, conv in candidates.items() if sized(conv)]
    done = [name for name, layer in adaptive.items() if sized(layer)]
    if callable(layers):
        chosen = {name for name in eligible if layers(name, candidates[name])}
        _require(chosen or adaptive, 'the function given as layers', candidates, kernel_sizes)
    else:
        patterns = [''] if layers is None else [layers] if isinstance(layers, str) else list(layers)
        chosen = set()
        if not patterns:
            _require(chosen, 'an empty list', candidates, kernel_sizes)
        for pattern in patterns:
            found = {name for name in eligible if matches(pattern, name)}
            known = found or any(matches(pattern, name) for name in done)
            _require(known, f'{pattern!r}' if pattern else 'a kernel of the sizes asked for', candidates, kernel_sizes)
            chosen |= found
    return {name: conv for name, conv in candidates.items() if name in chosen}


def matches(pattern: str, name: str) -> bool:
    """Whether ``pattern``, a name or a regular expression, is ``name`` or a part that it lies in, from any dot on; '' is everything.

    Raises:
        ValueError: for what is no regular expression.
    """
    if not pattern:
        return True
    try:
        return re.fullmatch(rf'(?:.*\.)?(?:{pattern})(?:\..*)?', name) is not None
    except re.error as error:
        raise ValueError(f'layers={pattern!r} is not a regular expression: {error}') from error


def _require(chosen: object, what: str, candidates: dict[str, nn.Conv2d], kernel_sizes: object) -> None:
    if chosen:
        return
    names = [f'{name} {conv.kernel_size[0]}x{conv.kernel_size[1]}' for name, conv in candidates.items()]
    shown = ', '.join(names[:12]) + (f', ... ({len(names)} in all)' if len(names) > 12 else '')
    sizes = 'kernels other than 1 x 1' if kernel_sizes is None else f'{kernel_sizes=}'
    raise ValueError(f"no nn.Conv2d matches {what} ({sizes}). The model's convolutions are: {shown or 'none'}")


def build_like(old: nn.Conv2d, conv: str | type[nn.Module], *, keep_weights: bool, **conv_kwargs: Any) -> nn.Module:
    """A convolution with the geometry, device, dtype and hooks of ``old``, and its Parameters themselves if ``keep_weights``.

    ``conv_kwargs`` go to the constructor and override what ``old`` says. With weights kept, sampling starts as the undeformed kernel
    (predictor_init='identity') unless ``conv_kwargs`` say otherwise.

    Raises:
        ValueError: for a convolution whose forward, weight or state_dict is not nn.Conv2d's own.
    """
    cls = resolve(conv)
    if parametrize.is_parametrized(old) or hasattr(old, 'weight_g') or hasattr(old, 'weight_orig'):
        raise ValueError('the weight of a convolution is computed (weight or spectral norm, pruning): remove that before converting it')
    arguments = {name: getattr(old, name) for name in ARGUMENTS} | {'bias': old.bias is not None} | _meaning(old)
    for registered in STATE_HOOKS:
        if getattr(old, registered):
            raise ValueError(f'it has hooks on its state_dict ({registered}), which belong to the module they were made for: remove them first')
    if keep_weights and cls is not nn.Conv2d:
        arguments['predictor_init'] = 'identity'
    new = cls(**(arguments | {'device': old.weight.device, 'dtype': old.weight.dtype} | conv_kwargs))
    if keep_weights:
        shape = tuple(new.get_parameter('weight').shape)
        if shape != tuple(old.weight.shape):
            raise ValueError(f'the weights cannot be kept: {tuple(old.weight.shape)} before, {shape} after {conv_kwargs}')
        new.weight, new.bias = old.weight, old.bias  # type: ignore[assignment]
    for registered in CALL_HOOKS:
        # the dictionaries themselves: the handles that remove hooks point to them
        setattr(new, registered, getattr(old, registered))
    return new.train(old.training)


def _meaning(old: nn.Conv2d) -> dict[str, Any]:
    """The arguments by which a subclass of nn.Conv2d differs from it; ValueError if it differs by more than arguments."""
    methods = {'forward': nn.Conv2d.forward, '_conv_forward': nn.Conv2d._conv_forward}
    if not any(method in vars(old) for method in methods):
        owners = {next(base for base in type(old).__mro__ if method in vars(base)) for method in methods} - {nn.Conv2d}
        names = {f'{base.__module__}.{base.__name__}' for base in owners}
        if names <= EQUIVALENTS.keys():
            return {key: value for name in names for key, value in EQUIVALENTS[name].items()}
    raise ValueError(
        f'{type(old).__module__}.{type(old).__name__} computes something else than nn.Conv2d: leave it out, for example by '
        'layers=lambda name, conv: type(conv) is nn.Conv2d'
    )


def convert(
    model: nn.Module,
    conv: str | type[nn.Module] = 'MetricConv',
    layers: Layers = None,
    *,
    kernel_sizes: Sequence[int | tuple[int, int]] | int | None = None,
    keep_weights: bool | None = None,
    **conv_kwargs: Any,
) -> nn.Module:
    """Replace convolutions of any model by adaptive ones, in place.

    Shifted and deformable convolutions, and metric ones with ``support='grid'``, then compute what the model computed before, up to rounding.

    Args:
        conv: 'MetricConv', 'ShiftedConv', 'DeformConv', another registered name, 'Conv2d' (nn.Conv2d, with other arguments), or a class. Layers
            that are adaptive already stay as they are; how many is logged (logger 'metricconv_mm.surgery', level INFO).
        layers, kernel_sizes: as in :func:`select`.
        keep_weights: keep kernels and biases; True unless ``fixed_kernel=True`` is among ``conv_kwargs``. Otherwise the new layers initialise
            their own.
        conv_kwargs: for the constructor of ``conv``.

    Returns:
        ``model`` itself (or its replacement, if it is a convolution).

    Raises:
        ValueError: for unknown names, layers that match nothing, and convolutions that cannot be replaced.

    Example:
        >>> model = convert(torchvision.models.resnet18(), 'MetricConv', layers='layer4', support='grid')
    """
    fixed = bool(conv_kwargs.get('fixed_kernel', False))
    if keep_weights and fixed:
        raise ValueError('fixed_kernel=True replaces the weights: it cannot go with keep_weights=True')
    keep = not fixed if keep_weights is None else keep_weights
    replacements: dict[int, nn.Module] = {}
    selected = select(model, layers, kernel_sizes)
    for name, old in selected.items():
        try:
            replacements.setdefault(id(old), build_like(old, conv, keep_weights=keep, **conv_kwargs))
        except (TypeError, ValueError) as error:
            raise type(error)(f'cannot convert {name or "the model"}: {error}') from error
    already = sum(isinstance(module, AdaptiveConv2d) for module in model.modules())
    names = ', '.join([*list(selected)[:4], *(['...'] if len(selected) > 4 else [])]) or 'none'
    logger.info('%d convolutions are now %s (%s); %d adaptive ones stay as they were', len(replacements), resolve(conv).__name__, names, already)
    for name, old in selected.items():
        if not name:
            return replacements[id(old)]
        model.set_submodule(name, replacements[id(old)])
    return model

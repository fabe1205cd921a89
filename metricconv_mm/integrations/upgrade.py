"""From a trained model to an adaptive one that computes the same, in files: what tools/upgrade_model.py is made of. Configs alone need mmengine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import AdaptiveConv2d

TOLERANCE = 1e-4


def tensors(output: Any) -> Iterator[Tensor]:
    """Every tensor in nested dicts, sequences and objects that turn into dicts (OpenMMLab's data elements)."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping) or hasattr(output, 'to_dict'):
        yield from tensors(list((output if isinstance(output, Mapping) else output.to_dict()).values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from tensors(part)


def difference(before: Any, after: Any) -> float:
    """The largest difference between two outputs, as a share of the largest magnitude in its tensor; inf if they do not compare."""
    pairs = list(zip(tensors(before), tensors(after), strict=False))
    shapes = [[tuple(tensor.shape) for tensor in tensors(output)] for output in (before, after)]
    if not pairs or shapes[0] != shapes[1]:
        return float('inf')
    shares = [_share(one.double(), other.double()) for one, other in pairs if one.numel()]
    return max(shares, default=0.0)


def _share(before: Tensor, after: Tensor) -> float:
    share = float((before - after).abs().max() / before.abs().max().clamp_min(torch.finfo(torch.float32).tiny))
    return share if share == share else float('inf')


def take_over(old: nn.Module, new: nn.Module, outputs: Callable[[nn.Module], Any], tolerance: float = TOLERANCE) -> float:
    """Load the weights of ``old`` into ``new``, its converted self, and return by how much the outputs differ.

    Raises:
        ValueError: when they differ by more than ``tolerance``, or nothing in ``new`` adapts.
    """
    layers = [layer for layer in new.modules() if isinstance(layer, AdaptiveConv2d)]
    if not layers:
        raise ValueError('no convolution of the model was converted')
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings('ignore', message='.*checkpoint of a plain convolution')  # what it warns of is measured here
        new.load_state_dict(old.state_dict())
        share = difference(outputs(old.eval()), outputs(new.eval()))
    if not share <= tolerance:
        raise ValueError(
            f'the converted model does not compute what the model did: the outputs differ by {share:.1e} of their scale, {tolerance:.0e} is allowed. '
            "MetricConv starts losslessly with support='grid' alone, and no convolution does with fixed_kernel=True"
        )
    return share


def write_checkpoint(model: nn.Module, path: Path, meta: Mapping | None = None) -> None:
    """Write state_dict and the plain Python part of ``meta``: the whole file, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.partial')
    torch.save({'state_dict': model.state_dict(), 'meta': _plain(meta or {})}, partial)
    os.replace(partial, path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if _is_plain(item)}
    return [_plain(item) for item in value if _is_plain(item)] if isinstance(value, list | tuple) else value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | Mapping | list | tuple)


def upgraded_config(cfg: Any, conversion: Mapping[str, Any], load_from: str | Path) -> Any:
    """The config of the converted model: ``cfg``, with its model inside ConvertConvs, starting from ``load_from``.

    What would download weights only to see them replaced (init_cfg of type Pretrained, pretrained=...) is left out.
    """
    from mmengine.config import Config

    new = deepcopy(cfg)
    module = 'metricconv_mm.integrations.mm' if cfg.get('default_scope', 'mmpretrain') == 'mmpretrain' else 'metricconv_mm'
    custom = dict(new.get('custom_imports') or {'allow_failed_imports': False})
    listed = custom.get('imports') or []
    custom['imports'] = [*([listed] if isinstance(listed, str) else listed)]
    if module not in custom['imports']:
        custom['imports'].append(module)
    new.custom_imports = custom
    new.model = dict(type='ConvertConvs', **conversion, model=_without_downloads(cfg.model.to_dict()))
    new.load_from, new.resume = str(load_from), False
    return Config.fromstring(new.pretty_text, '.py')


def _without_downloads(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_without_downloads(item) for item in value)
    if not isinstance(value, dict):
        return value
    init = value.get('init_cfg')
    skipped = {'init_cfg'} if isinstance(init, dict) and init.get('type') == 'Pretrained' else set()
    if isinstance(value.get('pretrained'), str):
        skipped.add('pretrained')
    return {key: _without_downloads(item) for key, item in value.items() if key not in skipped}


def build(cfg: Any) -> nn.Module:
    """The model of a config, as mmengine's Runner builds it, ready to predict."""
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model).eval()


def mm_outputs(model: nn.Module, image: Tensor) -> Any:
    """Raw outputs for one uint8 image ``Tensor[3, H, W]``: of the whole model where that needs no samples, else of its features and dense heads."""
    inputs = model.data_preprocessor({'inputs': [image]}, False)['inputs']  # type: ignore[operator]
    inputs = torch.stack(inputs) if isinstance(inputs, list) else inputs
    if not hasattr(model, 'roi_head'):
        return model(inputs, mode='tensor')
    features = model.extract_feat(inputs)  # type: ignore[operator]
    # proposals are sorted by score, which rounding can reorder: what they are made from is compared
    return [features, model.rpn_head(features) if hasattr(model, 'rpn_head') else ()]  # type: ignore[operator]

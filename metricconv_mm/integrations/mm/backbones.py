"""mmpretrain ResNets whose 3 x 3 convolutions adapt in the stages that one chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.backbones import ResNet, ResNet_CIFAR
from torch import nn

from ...surgery import convert


class _Adaptive(nn.Module):
    """Adds ``adaptive_cfg``, ``stages_with_adaptive`` and ``dilate_last_stage`` to a ResNet.

    Args:
        adaptive_cfg: the convolution, such as ``dict(type='MetricConv', eps_w=0.5)``; None is nn.Conv2d.
        stages_with_adaptive: for each stage, whether its 3 x 3 convolutions are replaced.
        dilate_last_stage: the paper's layer4: its first block keeps the resolution (stride 1), the 3 x 3 convolutions of its later blocks have
            dilation 2, in the standard network as in the adaptive ones.
    """

    def __init__(
        self,
        depth: int,
        *,
        adaptive_cfg: dict | None = None,
        stages_with_adaptive: Sequence[bool] = (False, True, True, True),
        dilate_last_stage: bool = True,
        num_stages: int = 4,
        strides: Sequence[int] = (1, 2, 2, 2),
        **kwargs: Any,
    ) -> None:
        stages_with_adaptive = tuple(stages_with_adaptive)
        if len(stages_with_adaptive) < num_stages:
            raise ValueError(f'expected stages_with_adaptive for {num_stages} stages, got {stages_with_adaptive}')
        if adaptive_cfg is not None and 'type' not in adaptive_cfg:
            raise ValueError(f"expected adaptive_cfg=dict(type='MetricConv', ...), got {adaptive_cfg=}")
        dilate = dilate_last_stage and num_stages == 4
        super().__init__(depth, num_stages=num_stages, strides=(*strides[:3], 1) if dilate else tuple(strides), **kwargs)  # type: ignore[call-arg]
        options = dict(adaptive_cfg or {'type': 'Conv2d'})
        conv = options.pop('type')
        for index, adaptive in enumerate(stages_with_adaptive[:num_stages]):
            blocks = getattr(self, f'layer{index + 1}')
            last = dilate and index == 3
            for number, block in enumerate(blocks):
                if not (adaptive or last):
                    continue
                geometry: dict[str, Any] = {'dilation': 2, 'padding': 2} if last and number else {}
                chosen = {'conv': conv, **options} if adaptive else {'conv': 'Conv2d'}
                if geometry or chosen['conv'] != 'Conv2d':
                    convert(block, kernel_sizes=3, keep_weights=False, **chosen, **geometry)
        self._freeze_stages()  # type: ignore[operator]


@MODELS.register_module()
class AdaptiveResNet(_Adaptive, ResNet):
    """mmpretrain's ResNet with adaptive convolutions; arguments of :class:`_Adaptive`, then of ResNet."""

    __doc__ = f'{__doc__}\n{_Adaptive.__doc__}'


@MODELS.register_module()
class AdaptiveResNet_CIFAR(_Adaptive, ResNet_CIFAR):
    """mmpretrain's ResNet_CIFAR (3 x 3 stem, no pooling, as in the paper) with adaptive convolutions; arguments as for AdaptiveResNet."""

    __doc__ = f'{__doc__}\n{_Adaptive.__doc__}'


__all__ = ['AdaptiveResNet', 'AdaptiveResNet_CIFAR']

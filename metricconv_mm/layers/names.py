"""Adaptive convolutions by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .adaptive import AdaptiveConv2d

#: every adaptive convolution by the name that configs and ``surgery.convert`` use
CONVOLUTIONS: dict[str, type[AdaptiveConv2d]] = {}
_listeners: list[Callable[[str, type], None]] = []


def register_convolution(name: str) -> Callable[[type], type]:
    """Class decorator: make an :class:`AdaptiveConv2d` available under ``name`` to configs, backbones and ``surgery.convert``.

    Raises:
        KeyError: when the name is taken by another class.
    """

    def register(cls: type) -> type:
        if CONVOLUTIONS.get(name, cls) is not cls:
            raise KeyError(f'{name!r} is already {CONVOLUTIONS[name].__name__}: choose another name')
        CONVOLUTIONS[name] = cls
        for listener in _listeners:
            listener(name, cls)
        return cls

    return register


def on_registration(listener: Callable[[str, type], None]) -> None:
    """Call ``listener(name, class)`` for every convolution that is registered, and that will be."""
    _listeners.append(listener)
    for name, cls in CONVOLUTIONS.items():
        listener(name, cls)

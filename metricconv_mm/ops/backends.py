"""Which backend runs a call, and why another one does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from . import cpu, encoding, encoding_cpu, encoding_triton, geodesic, geodesic_cpu, reference, triton
from .call import Call
from .encoding import EncodingCall
from .geodesic import GeodesicCall
from .reference import Gradients

ENVIRONMENT_VARIABLE = 'METRICCONV_BACKEND'


class Encoder(NamedTuple):
    """A backend's implementation of encode_metric; ``refusal(call)`` says why it cannot run this call."""

    refusal: Callable[[EncodingCall], str | None]
    forward: Callable[[EncodingCall], Tensor]
    backward: Callable[[EncodingCall, Tensor], Tensor]


class GeodesicFlow(NamedTuple):
    """A backend's implementation of geodesic_ball; ``refusal(call)`` says why it cannot run this call."""

    refusal: Callable[[GeodesicCall], str | None]
    forward: geodesic.Forward
    backward: geodesic.Backward


@dataclass(frozen=True)
class Backend:
    """An implementation of every convolution, of encode_metric if it has an encoder, and of geodesic_ball if it has a flow.

    ``missing()`` says what this machine lacks to run it, ``refusal(call)`` why it cannot run this call; None means that it can.
    """

    name: str
    missing: Callable[[], str | None]
    refusal: Callable[[Call], str | None]
    forward: Callable[[Call], Tensor]
    backward: Callable[[Call, Tensor, tuple[bool, bool, bool, bool]], Gradients]
    encoder: Encoder | None = None
    flow: GeodesicFlow | None = None


_TRITON_ENCODER = Encoder(encoding_triton.refusal, encoding_triton.forward, encoding_triton.backward)
_CPU_ENCODER = Encoder(encoding_cpu.refusal, encoding_cpu.forward, encoding_cpu.backward)
_REFERENCE_ENCODER = Encoder(lambda call: None, encoding.forward, encoding.backward)
_CPU_FLOW = GeodesicFlow(geodesic_cpu.refusal, geodesic_cpu.forward, geodesic_cpu.backward)
_REFERENCE_FLOW = GeodesicFlow(lambda call: None, geodesic.forward, geodesic.backward)
#: in the order in which 'auto' tries them
BACKENDS: dict[str, Backend] = {
    'triton': Backend('triton', triton.missing, triton.refusal, triton.forward, triton.backward, _TRITON_ENCODER),
    'cpu': Backend('cpu', cpu.missing, cpu.refusal, cpu.forward, cpu.backward, _CPU_ENCODER, _CPU_FLOW),
    'reference': Backend('reference', lambda: None, lambda call: None, reference.forward, reference.backward, _REFERENCE_ENCODER, _REFERENCE_FLOW),
}

_requested: ContextVar[str | None] = ContextVar('metricconv_backend', default=None)


def _check_name(name: str, source: str) -> None:
    if name != 'auto' and name not in BACKENDS:
        raise ValueError(f'{source}: unknown backend {name!r}: choose one of {["auto", *BACKENDS]}')


def use_backend(name: str) -> AbstractContextManager[None]:
    """Run the operators on the named backend, or on the fastest that can with 'auto', inside ``with use_backend(name):``.

    Raises:
        ValueError: for an unknown name.
        RuntimeError: when a call cannot run on the named backend, with the reason.
    """
    _check_name(name, 'use_backend')
    return _using(name)


@contextmanager
def _using(name: str) -> Iterator[None]:
    token = _requested.set(name)
    try:
        yield
    finally:
        _requested.reset(token)


def requested() -> str | None:
    """The backend that :func:`use_backend` asks for here, if any."""
    return _requested.get()


def select(call: Call) -> Backend:
    """The backend asked for by :func:`use_backend` or the METRICCONV_BACKEND variable; else the first that can run the call."""
    return _first(call.operator, lambda backend: backend.refusal(call))


def select_encoder(call: EncodingCall) -> Encoder:
    """The same choice for encode_metric."""

    def refusal(backend: Backend) -> str | None:
        return backend.encoder.refusal(call) if backend.encoder else f'it has no {call.operator}'

    encoder = _first(call.operator, refusal).encoder
    assert encoder is not None
    return encoder


def select_flow(call: GeodesicCall) -> GeodesicFlow:
    """The same choice for geodesic_ball."""

    def refusal(backend: Backend) -> str | None:
        return backend.flow.refusal(call) if backend.flow else f'it has no {call.operator}'

    flow = _first(call.operator, refusal).flow
    assert flow is not None
    return flow


def _first(operator: str, refusal: Callable[[Backend], str | None]) -> Backend:
    name = requested() or os.environ.get(ENVIRONMENT_VARIABLE) or 'auto'
    _check_name(name, 'use_backend' if requested() else ENVIRONMENT_VARIABLE)
    reasons = []
    for backend in BACKENDS.values() if name == 'auto' else [BACKENDS[name]]:
        reason = backend.missing() or refusal(backend)
        if reason is None:
            return backend
        reasons.append(f'{backend.name}: {reason}')
    raise RuntimeError(f'{operator} cannot run on backend {name!r}. ' + '; '.join(reasons))

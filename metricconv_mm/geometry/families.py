"""The metrics that a layer can predict: a norm, and how much of M and w is free."""

from __future__ import annotations

from typing import NamedTuple


class Family(NamedTuple):
    """A norm, and the encoding and drift that its metrics have; None leaves the choice."""

    norm: str = 'randers'
    encoding: str | None = None
    drift: str | None = None


METRICS: dict[str, Family] = {
    'randers': Family(),
    'matsumoto': Family('matsumoto'),
    'riemann': Family(drift='none'),
    'isotropic': Family(encoding='isotropic', drift='none'),
}


def choose_metric(metric: str, encoding: str | None = None, drift: str | None = None) -> tuple[str, str, str]:
    """(norm, encoding, drift) of a metric; None are 'spectral_scaled' and 'sigmoid_detached' where the metric does not settle them.

    Raises:
        ValueError: for an unknown metric, and for an encoding or drift that it does not have.
    """
    if metric not in METRICS:
        raise ValueError(f'unknown {metric=}: choose one of {sorted(METRICS)}')
    family = METRICS[metric]
    for name, asked, settled in (('encoding', encoding, family.encoding), ('drift', drift, family.drift)):
        if settled is not None and asked not in (None, settled):
            raise ValueError(f'{metric=} has {name} {settled!r}, got {name}={asked!r}: leave it out, or choose another metric')
    return family.norm, family.encoding or encoding or 'spectral_scaled', family.drift or drift or 'sigmoid_detached'

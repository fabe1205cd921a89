"""(alpha, beta) norms: F(u) as a function of alpha = sqrt(u^T M u) and beta = w^T u alone, for the same M and w whichever norm it is.

F is homogeneous of degree one in both together, F = alpha phi(beta / alpha). It is positive and strongly convex for every u != 0 if, and only if,
phi(s) > 0 and phi(s) - s phi'(s) + (b^2 - s^2) phi''(s) > 0 for |s| <= b = ||w||_{M^-1}, which bounds b.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Slope = Tensor | float


class Norm(NamedTuple):
    """F, and what its unit ball needs to be one."""

    value: Callable[[Tensor, Tensor], Tensor]
    """F from alpha and beta"""
    slopes: Callable[[Tensor, Tensor], tuple[Slope, Slope]]
    """dF / dalpha and dF / dbeta"""
    limit: float
    """F is positive and strongly convex where ||w||_{M^-1} is below this"""
    area: Callable[[Tensor], Tensor]
    """||w||_{M^-1} -> area of the unit ball over that of M's ellipse"""


def _matsumoto_slopes(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    ratio = alpha / (alpha - beta)
    return ratio * (2 - ratio), ratio * ratio


#: Randers, phi = 1 + s: an ellipse off its centre. Matsumoto, phi = 1 / (1 - s): what M makes of Pascal's limacon r = 1 - b cos(theta)
NORMS: dict[str, Norm] = {
    'randers': Norm(lambda alpha, beta: alpha + beta, lambda alpha, beta: (1.0, 1.0), 1.0, lambda b: (1 - b * b) ** -1.5),
    # as a product with a ratio: squares of a small alpha would underflow
    'matsumoto': Norm(lambda alpha, beta: alpha * (alpha / (alpha - beta)), _matsumoto_slopes, 0.5, lambda b: 1 + b * b / 2),
}


def norm_named(norm: str) -> Norm:
    """The norm of this name.

    Raises:
        ValueError: when there is none.
    """
    if norm not in NORMS:
        raise ValueError(f'unknown {norm=}: choose one of {sorted(NORMS)}')
    return NORMS[norm]


def check_eps_w(eps_w: float) -> None:
    """Raise ValueError unless 0 < eps_w <= 1."""
    if not 0 < eps_w <= 1:
        raise ValueError(f'expected 0 < eps_w <= 1 (1 is Riemannian, towards 0 more asymmetric), got eps_w={eps_w}')


def drift_margin(eps_w: float, norm: str) -> float:
    """1 - the largest ||w||_{M^-1} that eps_w allows, (1 - eps_w) limit: eps_w itself for 'randers', (1 + eps_w) / 2 for 'matsumoto'.

    Raises:
        ValueError: for an unknown norm, or eps_w outside (0, 1].
    """
    check_eps_w(eps_w)
    # a sum that leaves eps_w, to the last bit, where the limit is 1
    return eps_w + (1 - norm_named(norm).limit) * (1 - eps_w)

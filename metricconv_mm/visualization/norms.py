"""The unit balls of every metric, side by side."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..geometry import METRICS, NORMS, drift_norm, is_positive, tangent_ball

#: ||w||_{M^-1} of the balls, as far as the limit of their norm allows
ASYMMETRIES = (0.0, 0.25, 0.49, 0.7)


def draw_norms(matrix: Tensor, direction: Tensor) -> Figure:
    """The unit balls of every metric for the same M and w, w getting longer.

    Args:
        matrix: ``Tensor[3]``, m_xx, m_xy, m_yy, positive definite.
        direction: ``Tensor[2]``, w up to its length.

    Raises:
        ValueError: for a matrix that is not positive definite, or no direction.
    """
    if not (is_positive(torch.cat([matrix, 0 * matrix[:2]]).double().view(5, 1, 1)).all() and (matrix[0] * matrix[2]).isfinite()):
        raise ValueError(f'expected a positive definite matrix (xx, xy, yy), xx > 0 and xx yy > xy^2, got {matrix.tolist()}')
    if not (direction.isfinite().all() and direction.any()):
        raise ValueError(f'expected a direction (x, y) other than (0, 0), got {direction.tolist()}')
    # neither its square nor its length may overflow
    direction = direction / direction.abs().max()
    figure = Figure(figsize=(3.1 * len(METRICS), 3.4), layout='constrained')
    balls = [(name, _balls(name, matrix, direction)) for name in METRICS]
    reach = 1.08 * max(ball.abs().max().item() for _, drawn in balls for _, ball in drawn)
    for index, (name, drawn) in enumerate(balls):
        axes = figure.add_subplot(1, len(METRICS), index + 1)
        for label, ball in drawn:
            axes.plot(*torch.cat([ball, ball[:1]]).T.tolist(), label=label, linewidth=1.4)
        if METRICS[name].drift != 'none':
            x, y = (0.45 * reach * direction / direction.norm()).tolist()
            axes.annotate('', (x, y), (0, 0), arrowprops={'arrowstyle': '->', 'color': 'grey'})
            axes.legend(title='$||w||_{M^{-1}}$', fontsize=8, title_fontsize=8, loc='lower right', frameon=False)
        axes.plot(0, 0, 'k.', markersize=4)
        axes.set(title=name, aspect='equal', xlim=(-reach, reach), ylim=(reach, -reach))  # y goes down, as in an image
        axes.tick_params(labelsize=8)
    return figure


def _balls(name: str, matrix: Tensor, direction: Tensor) -> list[tuple[str, Tensor]]:
    """(||w||_{M^-1}, boundary ``[K, 2]``) of every ball of a metric."""
    family = METRICS[name]
    if family.encoding == 'isotropic':
        # of the same area
        value = (matrix[0] * matrix[2] - matrix[1] ** 2).sqrt()
        matrix = torch.stack([value, torch.zeros_like(value), value])
    metric = torch.cat([matrix, direction]).double().view(5, 1, 1)
    unit, drawn = drift_norm(metric).item(), []
    allowed = [0.0] if family.drift == 'none' else [a for a in ASYMMETRIES if a < NORMS[family.norm].limit]
    for asymmetry in allowed:
        scaled = torch.cat([metric[:3], metric[3:] * asymmetry / unit])
        drawn.append((f'{asymmetry:.2f}', tangent_ball(scaled, 'polar', (1, 720), 0.0, norm=family.norm)[..., 0, 0]))
    return drawn

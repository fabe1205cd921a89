"""What the page's controls say."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..geometry import NORMS, SUPPORTS

#: where metrics come from
SOURCES = ('shape', 'gradient', 'layer')
#: whose samples the filtered picture averages
BALLS = ('tangent', 'geodesic')


@dataclass(frozen=True)
class Controls:
    """The state of the controls, checked.

    Args:
        source: 'shape', one metric for all pixels, as the sliders say; 'gradient', from the image's gradient; 'layer', what a layer predicts.
        norm: of :data:`~metricconv_mm.geometry.NORMS`, for hand-made metrics.
        radius: of the ball of a flat region, in pixels.
        anisotropy: longest over shortest axis of a 'shape'.
        angle, lean: of the long axis, and where the ball leans, in degrees from +x towards +y (down).
        asymmetry: ||w||_{M^-1}, below 1.
        sharpness: how much an edge narrows the ball of a 'gradient'.
        elongate: of :func:`~metricconv_mm.geometry.gradient_metric`.
        layer: name of the layer.
        kernel_size: k of the k x k samples, odd.
        support: how they lie in the ball.
        over: the balls whose samples are averaged.
        geodesic: whether to compute the geodesic ball.
        spread, flow_time, stencil: of the geodesic ball: how far heat gets, how far samples flow, both in pixels, and how large they start, in
            tangent balls.
        sigma: standard deviation of the noise for grey levels in [0, 1].

    Raises:
        ValueError: for what is missing or does not fit.
    """

    source: str = 'gradient'
    norm: str = 'randers'
    radius: float = 4.0
    anisotropy: float = 3.0
    angle: float = 30.0
    asymmetry: float = 0.5
    lean: float = 30.0
    sharpness: float = 10.0
    elongate: str = 'edge'
    layer: str = ''
    kernel_size: int = 5
    support: str = 'onion'
    over: str = 'tangent'
    geodesic: bool = True
    spread: float = 3.0
    flow_time: float = 2.0
    stencil: float = 0.5
    sigma: float = 0.0

    def __post_init__(self) -> None:
        missing = [field.name for field in fields(self) if getattr(self, field.name) is None]
        if missing:
            raise ValueError(f'{" and ".join(missing).replace("_", " ")}: expected a number, got nothing or one outside the range of the slider')
        for name, choices in (('source', SOURCES), ('norm', NORMS), ('support', SUPPORTS), ('over', BALLS)):
            if getattr(self, name) not in choices:
                raise ValueError(f'unknown {name}={getattr(self, name)!r}: choose one of {sorted(choices)}')
        # the centre of an even kernel is between pixels, and no click is there
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f'Kernel k: expected an odd number of at least 1, got {self.kernel_size}')
        limit = NORMS[self.norm].limit
        if self.source == 'shape' and not 0 <= self.asymmetry < limit:
            raise ValueError(
                f'Asymmetry {self.asymmetry:g}: the {self.norm.title()} norm needs less than {limit:g}, or its ball has no bound or is not '
                'convex: move the slider down'
            )
        if self.source == 'gradient' and not 0 <= self.asymmetry < 1:
            raise ValueError(f'Asymmetry {self.asymmetry:g}: expected less than 1, where the ball has no bound any more: move the slider down')

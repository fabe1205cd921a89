"""Everything between the controls and the figures, with what has been computed kept for as long as it may be asked for again."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import lru_cache

from torch import Tensor

from .controls import Controls
from .fields import Field, handmade_field
from .filters import Filtered, filter_geodesic, filter_tangent, region_around
from .model import Trained
from .pictures import BUNDLED, Picture, shrink, with_noise
from .turns import Turns
from .views import Balls, balls_at

#: opened pictures that are kept
PICTURES = 8
#: pictures through geodesic balls that are kept, to compare them
RESULTS = 8
#: seconds for which the controls rest before geodesic balls are averaged
REST = 0.25


#: (x, y) as shares of the width and the height: it stays where it is when the picture is shrunk
Spot = tuple[float, float]
MIDDLE = (0.5, 0.5)


@dataclass(frozen=True)
class Scene:
    """A picture with its metric."""

    seen: Tensor
    """what is filtered: with noise, ``Tensor[C, H, W]``"""
    clean: Tensor
    field: Field
    note: str

    def point(self, at: Spot | None) -> tuple[float, float]:
        """(x, y) of a spot, in pixels of the picture."""
        (x, y), (rows, columns) = at or MIDDLE, self.seen.shape[1:]
        return x * columns - 0.5, y * rows - 0.5


class Workshop:
    """Opened pictures by their keys, a model if there is one, and what the page shows of them.

    Args:
        first: the picture to start with, instead of a bundled one.
    """

    def __init__(self, first: Picture | None = None, trained: Trained | None = None) -> None:
        self.trained = trained
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._numbers = itertools.count()
        self._bundled = {name: make() for name, make in BUNDLED.items()}
        self.first = self.add(first) if first else next(iter(BUNDLED))
        # hooks on a model are no thing for two threads, and one thread is enough for the cores; but nobody waits for geodesic balls who wants others
        self._quick, self._slow = Turns(), Turns()
        self._scene = lru_cache(maxsize=8)(self._new_scene)
        self._geodesic: OrderedDict[tuple, Filtered] = OrderedDict()

    def add(self, picture: Picture) -> str:
        """The key of a picture from now on."""
        key = f'opened-{next(self._numbers)}'
        self._pictures[key] = picture
        while len(self._pictures) > PICTURES:
            self._pictures.popitem(last=False)
        return key

    def picture(self, key: str) -> Picture:
        """The picture of a key.

        Raises:
            ValueError: when it is not kept any more.
        """
        picture = self._bundled.get(key) or self._pictures.get(key)
        if picture is None:
            raise ValueError('This picture is not kept any more: open it again')
        return picture

    def balls(self, key: str, side: int, at: Spot | None, controls: Controls, who: str = '') -> tuple[Scene, Balls]:
        """The picture's scene, and the balls at a spot of it, None for its middle.

        Args:
            who: of the requests of one asker the newest alone is computed.

        Raises:
            Superseded: when it asked again meanwhile.
        """
        with self._quick.turn(f'balls {who}', self._quick.ask(f'balls {who}')):
            scene = self._scene(key, side, controls)
            return scene, balls_at(scene.field, *scene.point(at), controls)

    def spot(self, key: str, side: int, at: Spot | None, controls: Controls, who: str = '') -> Spot | None:
        """Around which spot :meth:`filtered` has to be asked for: None when it is the whole picture that is filtered."""
        if controls.over == 'tangent':
            return None
        with self._quick.turn(f'spot {who}', self._quick.ask(f'spot {who}')):
            scene = self._scene(key, side, controls)
        return (at or MIDDLE) if region_around(scene.field, *scene.point(at)) else None

    def filtered(self, key: str, side: int, controls: Controls, at: Spot | None = None, who: str = '') -> Filtered:
        """The picture through the metric convolution, over geodesic balls only around a spot if it is large.

        Raises:
            Superseded: as :meth:`balls`.
        """
        # also when it will not be used: slow computations of what was asked for before are void
        ticket = self._slow.ask(who)
        with self._quick.turn(f'filtered {who}', self._quick.ask(f'filtered {who}')):
            scene = self._scene(key, side, controls)
            if controls.over == 'tangent':
                return filter_tangent(scene.field, scene.seen, scene.clean)
        with self._slow.turn(who, ticket, REST):
            # whether the ball is shown makes no difference
            asked = key, side, replace(controls, geodesic=True), at
            if asked not in self._geodesic:
                region = region_around(scene.field, *scene.point(at))
                self._geodesic[asked] = filter_geodesic(scene.field, scene.seen, scene.clean, controls, region)
                while len(self._geodesic) > RESULTS:
                    self._geodesic.popitem(last=False)
            return self._geodesic[asked]

    def _new_scene(self, key: str, side: int, controls: Controls) -> Scene:
        picture, note = shrink(self.picture(key), side)
        noisy = with_noise(picture, controls.sigma)
        if controls.source != 'layer':
            return Scene(noisy, picture.image, handmade_field(noisy, controls), note)
        if self.trained is None:
            raise ValueError('No model is open: start with python -m metricconv_mm.explore CONFIG CHECKPOINT')
        field, seen = self.trained.field(controls.layer, noisy)
        return Scene(seen, self.trained.seen(picture.image), field, note)

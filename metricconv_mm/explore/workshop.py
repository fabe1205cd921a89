"""Everything between the controls and the figures, with what has been computed kept for as long as it may be asked for again."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from .controls import Controls
from .fields import Field, handmade_field
from .model import Trained
from .pictures import BUNDLED, Picture, shrink, with_noise
from .views import Balls, Filtered, balls_at, filter_picture

#: opened pictures that are kept
PICTURES = 8


@dataclass(frozen=True)
class Scene:
    """A picture with its metric."""

    seen: Tensor
    """what is filtered: with noise, ``Tensor[C, H, W]``"""
    clean: Tensor
    field: Field
    note: str


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
        # hooks on a model are no thing for two threads, and one thread is enough for the cores
        self._lock = threading.Lock()
        self._scene = lru_cache(maxsize=8)(self._new_scene)

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

    def balls(self, key: str, side: int, x: float | None, y: float | None, controls: Controls) -> tuple[Scene, Balls]:
        """The picture's scene, and the balls at a pixel of it, None for its middle."""
        with self._lock:
            scene = self._scene(key, side, controls)
            rows, columns = scene.seen.shape[1:]
            return scene, balls_at(scene.field, columns / 2 if x is None else x, rows / 2 if y is None else y, controls)

    def filtered(self, key: str, side: int, controls: Controls) -> Filtered:
        """The picture through the metric convolution."""
        with self._lock:
            scene = self._scene(key, side, controls)
            return filter_picture(scene.field, scene.seen, scene.clean)

    def _new_scene(self, key: str, side: int, controls: Controls) -> Scene:
        picture, note = shrink(self.picture(key), side)
        noisy = with_noise(picture, controls.sigma)
        if controls.source != 'layer':
            return Scene(noisy, picture.image, handmade_field(noisy, controls), note)
        if self.trained is None:
            raise ValueError('No model is open: start with python -m metricconv_mm.explore CONFIG CHECKPOINT')
        field, seen = self.trained.field(controls.layer, noisy)
        return Scene(seen, self.trained.seen(picture.image), field, note)

"""Who computes next, when browsers ask for more than can be shown."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Superseded(Exception):
    """Somebody asked again before it was computed: nobody waits for it any more."""


class Turns:
    """One computation at a time; of those that one asker waits for, the newest alone.

    A slider that is dragged asks many times a second, and a browser has six connections: without this it would show old balls for a long time.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._tickets = itertools.count()
        self._newest: dict[str, int] = {}
        self._busy = False

    def ask(self, who: str) -> int:
        """A ticket, with which older ones of the same asker are void."""
        with self._condition:
            self._newest[who] = next(self._tickets)
            self._condition.notify_all()
            return self._newest[who]

    @contextmanager
    def turn(self, who: str, ticket: int, patience: float = 0.0) -> Iterator[None]:
        """Wait for a turn, ``patience`` seconds at least.

        Raises:
            Superseded: once the asker has a newer ticket.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._newest[who] != ticket, patience)
            self._condition.wait_for(lambda: not self._busy or self._newest[who] != ticket)
            if self._newest[who] != ticket:
                raise Superseded
            self._busy = True
        try:
            yield
        finally:
            with self._condition:
                self._busy = False
                self._condition.notify_all()

"""How far a stage of planning is, told every few seconds with an estimate of what is left."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_SECONDS = 5.0


class Pace:
    """Counts the operators that a stage is done with; it may go over them several times.

    Args:
        say: Told how far it is, unless it takes no longer than `EVERY_SECONDS`.
        what: The stage, for people.
    """

    def __init__(self, say: Callable[[str], None], what: str) -> None:
        self._say = say
        self._what = what
        self._started = self._told = time.monotonic()
        self._done = 0

    def __call__(self, done: int, of: int) -> None:
        """Take note that another one is done.

        Args:
            done: How many are; fewer than before when they are gone over again.
            of: How many there are.
        """
        now = time.monotonic()
        if done <= self._done:
            self._started = self._told
        self._done = done
        if now - self._told < EVERY_SECONDS or done >= of:
            return
        self._told = now
        left = (now - self._started) / done * (of - done)
        self._say(f"{self._what}: {done} of {of} operators, about {left:.0f} s left")

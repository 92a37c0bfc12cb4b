"""Processes and what they found, held by every device of one process with the same settings."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any, TypeVar

_S = TypeVar("_S", bound="Shared")


class Shared(ABC):
    """What devices with the same settings hold in common; the last one that lets go closes it.

    Args:
        settings: What is the same.
    """

    _all: dict[tuple[Any, ...], Shared] = {}  # noqa: RUF012  (by process, as a fork copies it)
    _lock = threading.RLock()  # garbage collection may release a device at any time

    def __init__(self, settings: Hashable) -> None:
        self._key = (os.getpid(), type(self), settings)
        self._users = 1

    @classmethod
    def of(cls: type[_S], settings: Hashable) -> _S:
        """The one for these settings, its processes starting; counts another user."""
        with cls._lock:
            found = cls._all.get((os.getpid(), cls, settings))
            if found is None:
                found = cls(settings)
                cls._all[found._key] = found
                found.warm_up()
            else:
                found._users += 1
            assert isinstance(found, cls)
            return found

    def release(self) -> None:
        """Count one user less; without any, end the processes."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                if self._all.get(self._key) is self:
                    del self._all[self._key]
                self.close()

    @abstractmethod
    def warm_up(self) -> None:
        """Start the processes; returns at once."""

    @abstractmethod
    def close(self) -> None:
        """End the processes; safe to call twice."""

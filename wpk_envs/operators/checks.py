"""Checks of operator fields: plain values come out, or a `UserError` that names the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from wpk_envs.errors import UserError


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` as an int of at least ``least``.

    Raises:
        UserError: For anything but a whole number, and for numbers below ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}")
    if value < least:
        raise UserError(f"{name} must be at least {least}, not {value}")
    return int(value)


def switch(name: str, value: Any) -> bool:
    """Return ``value`` if it is true or false, else raise `UserError`."""
    if not isinstance(value, (bool, np.bool_)):
        raise UserError(f"{name} must be true or false, not {value!r}")
    return bool(value)


def pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Return a whole number or a sequence [h, w] of two as a pair (h, w).

    Raises:
        UserError: For anything else, and for numbers below ``least``.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        value = (value, value)
    if len(value) != 2:
        raise UserError(f"{name} must be one whole number or a pair [h, w], not {list(value)}")
    return whole_number(name, value[0], least), whole_number(name, value[1], least)


class Pair:
    """A dataclass field that takes a whole number or a pair [h, w] and reads as the pair (h, w).

    Args:
        default: The field's default value.
        least: Smallest number allowed.
    """

    def __init__(self, default: int, least: int = 1) -> None:
        self._default = (default, default)
        self._least = least

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> tuple[int, int]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> tuple[int, int]: ...

    def __get__(self, instance: object | None, owner: type) -> tuple[int, int]:
        return self._default if instance is None else instance.__dict__[self._name]

    def __set__(self, instance: object, value: int | Sequence[int]) -> None:
        instance.__dict__[self._name] = pair(self._name, value, self._least)

"""Packing recipes: how a canonical array becomes a kernel's buffer, as plain data that travels with a kernel.

A `Packing` is called like a function and written like one, step by step::

    Packing().reshape(64, 576).transpose(1, 0).pad((0, 0), (0, 64))

It needs numpy alone, so a machine that only times kernels can pack their arguments too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wpk_envs.errors import UserError


class Packing:
    """An immutable chain of array steps; every method returns a longer one.

    Args:
        steps: Each a name and its plain-data arguments, as `to_list` gives them.

    Raises:
        UserError: If a step is unknown.
    """

    def __init__(self, steps: Sequence[Sequence[Any]] = ()) -> None:
        self._steps = tuple((str(name), list(arguments)) for name, arguments in steps)
        for name, _ in self._steps:
            if name not in _STEPS:
                raise UserError(f"unknown packing step '{name}' (known: {', '.join(_STEPS)}); use a newer version")

    def reshape(self, *shape: int) -> Packing:
        """Give the array another shape; one extent may be -1."""
        return self._then("reshape", shape)

    def transpose(self, *axes: int) -> Packing:
        """Reorder the axes."""
        return self._then("transpose", axes)

    def pad(self, *widths: tuple[int, int]) -> Packing:
        """Add zeros before and after each axis."""
        return self._then("pad", [list(width) for width in widths])

    def crop(self, *shape: int) -> Packing:
        """Keep the first elements of each axis."""
        return self._then("crop", shape)

    def einsum(self, subscripts: str, matrix: np.ndarray) -> Packing:
        """Multiply by a matrix, in float64: ``einsum(subscripts, matrix, array)``."""
        return self._then("einsum", [subscripts, matrix.tolist()])

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Apply every step; the result is float32 and contiguous."""
        for name, arguments in self._steps:
            array = _STEPS[name](array, arguments)
        return np.ascontiguousarray(array, dtype=np.float32)

    def to_list(self) -> list[list[Any]]:
        """The steps as plain data; `Packing` of them is the same recipe."""
        return [[name, arguments] for name, arguments in self._steps]

    def _then(self, name: str, arguments: Sequence[Any]) -> Packing:
        return Packing([*self._steps, (name, list(arguments))])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packing) and self._steps == other._steps

    def __hash__(self) -> int:
        return hash(repr(self._steps))

    def __repr__(self) -> str:
        return f"Packing({self.to_list()})"


_STEPS = {
    "reshape": lambda array, shape: array.reshape(shape),
    "transpose": lambda array, axes: array.transpose(axes),
    "pad": lambda array, widths: np.pad(array, widths),
    "crop": lambda array, shape: array[tuple(slice(extent) for extent in shape)],
    "einsum": lambda array, given: np.einsum(given[0], np.array(given[1]), array.astype(np.float64)),
}

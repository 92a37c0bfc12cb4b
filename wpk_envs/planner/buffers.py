"""Aligned memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wpk_envs.planner.memory import ALIGNMENT


def arena(size: int) -> np.ndarray:
    """Zeroed bytes, ``uint8[size]``, that start at a multiple of `ALIGNMENT`."""
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def part(memory: np.ndarray, offset: int, shape: Sequence[int], dtype: str) -> np.ndarray:
    """A piece of an arena as an array."""
    count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return memory[offset : offset + count].view(dtype).reshape(shape)


def aligned(array: np.ndarray) -> np.ndarray:
    """A contiguous copy in aligned memory, or the array itself if it is that already."""
    if array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0 and array.flags.writeable:
        return array
    copy = part(arena(array.nbytes), 0, array.shape, str(array.dtype))
    copy[...] = array
    return copy

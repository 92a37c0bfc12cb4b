"""Where the elements of a tensor lie: the layouts that implementations read and write.

``plain`` is the canonical layout, row by row. Images ([N, C, H, W]) may also be ``NHWC`` or, in blocks of channels,
``NCHW8c`` and ``NCHW16c`` ([N, C', H, W, c], the last block filled up with zeros, which every
implementation keeps).
"""

from __future__ import annotations

import math

import numpy as np

PLAIN = "plain"
NHWC = "NHWC"


def blocked(lanes: int) -> str:
    """The layout with channels in blocks of ``lanes``."""
    return f"NCHW{lanes}c"


def block_of(layout: str) -> int | None:
    """Channels of a block; none for a layout without blocks."""
    return int(layout[4:-1]) if layout.startswith("NCHW") and layout.endswith("c") else None


def fits(layout: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor can have a layout: images any, everything else the plain one."""
    return layout == PLAIN or len(shape) == 4


def buffer_shape(layout: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the buffer that holds a tensor in a layout."""
    if layout == PLAIN:
        return shape
    batch, channels, height, width = shape
    if layout == NHWC:
        return batch, height, width, channels
    block = block_of(layout)
    assert block is not None, layout
    return batch, -(-channels // block), height, width, block


def slice_offset(layout: str, shape: tuple[int, ...], axis: int, start: int, stop: int) -> int | None:
    """Where in a tensor's buffer a slice of the tensor is, in one piece and as the layout has it.

    Args:
        layout: Of the tensor and of the slice.
        shape: Of the tensor.
        axis: That is sliced.
        start: Its first index in the slice.
        stop: Its first index behind the slice.

    Returns:
        Elements before the slice; none where the slice lies in several pieces, or cuts a block of channels.
    """
    if (start, stop) == (0, shape[axis]):
        return 0
    whole, part = buffer_shape(layout, shape), buffer_shape(layout, (*shape[:axis], stop - start, *shape[axis + 1 :]))
    block = block_of(layout)
    if block is not None and axis == 1 and (start % block or (stop % block and stop != shape[1])):
        return None
    place = {1: 3, 2: 1, 3: 2}.get(axis, axis) if layout == NHWC else axis
    if any(extent != 1 for extent in whole[:place]):
        return None
    first = start // block if block is not None and axis == 1 else start
    return first * math.prod(part[place + 1 :])


def to_buffer(array: np.ndarray, layout: str) -> np.ndarray:
    """A canonical array in a layout."""
    if layout == PLAIN:
        return np.asarray(array, order="C")  # which leaves rank 0 as it is
    if layout == NHWC:
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    batch, blocks, height, width, block = buffer_shape(layout, array.shape)
    padded = np.zeros((batch, blocks * block, height, width), array.dtype)
    padded[:, : array.shape[1]] = array
    return np.ascontiguousarray(padded.reshape(batch, blocks, block, height, width).transpose(0, 1, 3, 4, 2))


def from_buffer(buffer: np.ndarray, layout: str, shape: tuple[int, ...]) -> np.ndarray:
    """The canonical array of a given shape that a buffer in a layout holds."""
    if layout == PLAIN:
        return buffer.reshape(shape)
    if layout == NHWC:
        return buffer.transpose(0, 3, 1, 2)
    batch, channels, height, width = shape
    return buffer.transpose(0, 1, 4, 2, 3).reshape(batch, -1, height, width)[:, :channels]

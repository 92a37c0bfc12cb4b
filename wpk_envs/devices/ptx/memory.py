"""The arrays that a kernel works on."""

from __future__ import annotations

import numpy as np

from wpk_envs.devices.ptx.problems import PtxError


class Buffer:
    """An array in the kernel's global memory, and which of its bytes hold a value.

    An array that is not writeable is an input: it is initialised and may not be stored to. A writeable one is an
    output or a workspace: reading an element that no store has written is an error. Pass the same `Buffer` to
    several kernels to let one read what another has written.

    Attributes:
        array: The array itself; kernels work in it.
        flags: One byte per byte of the array, 255 once it was written; None if the array is initialised.
    """

    def __init__(self, array: np.ndarray, initialised: bool | None = None) -> None:
        """Describe an array.

        Args:
            array: Any contiguous array.
            initialised: Whether its values may be read; if None, those of arrays that are not writeable may.
        """
        if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
            raise PtxError(f"a kernel's buffer must be a C-contiguous NumPy array, not {type(array).__name__}")
        self.array = array
        known = not array.flags.writeable if initialised is None else initialised
        self.flags = None if known else np.zeros(array.nbytes, np.uint8)

    @property
    def written(self) -> np.ndarray:
        """Whether each element holds a value; a boolean array of the array's shape."""
        if self.flags is None:
            return np.ones(self.array.shape, bool)
        return np.all(self.flags.reshape(*self.array.shape, self.array.itemsize), axis=-1)


Argument = np.ndarray | Buffer | int | float
"""What a kernel may be given: a buffer, an array that becomes one, or a number."""

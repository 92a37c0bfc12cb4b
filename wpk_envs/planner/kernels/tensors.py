"""TVM's function interface, by which compiled kernels are called, without the frameworks that it knows."""

from __future__ import annotations

import functools
import sys
from typing import Any


@functools.cache
def tvm_ffi() -> Any:
    """The package ``tvm_ffi``.

    It imports torch if that is installed, to take torch's tensors faster; that takes seconds, and kernels are given
    NumPy's. So as long as nobody has imported torch it is hidden for a moment.
    """
    if "torch" in sys.modules or "tvm_ffi" in sys.modules:
        import tvm_ffi

        return tvm_ffi
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tvm_ffi
    finally:
        del sys.modules["torch"]
    return tvm_ffi

"""An interpreter of the PTX that NVRTC produces: CUDA kernels run and are checked without a GPU.

Example:
    >>> from wpk_envs.devices.ptx import Class, Cycles, Program, parse
    >>> kernel = Program(parse(text).functions["main_kernel"])  # doctest: +SKIP
    >>> kernel.run(grid=(4, 4), block=(16, 16), arguments=[a, b, c])  # doctest: +SKIP
    >>> cycles = Cycles(latency={Class.FMA: 6}, issue={})
    >>> (counts,) = kernel.count((4, 4), (16, 16), [a, b, c], cycles, blocks=[5])  # doctest: +SKIP

`Program.count` gives what a block does, as the input of a model of a GPU's time (see `BlockCounts`).

Importing this imports neither numba nor llvmlite; the first `Program` does, and the first run compiles
the interpreter's loop, which numba keeps on disk.
"""

from __future__ import annotations

from wpk_envs.devices.ptx.counts import BlockCounts, Cycles
from wpk_envs.devices.ptx.isa import Class
from wpk_envs.devices.ptx.memory import Buffer
from wpk_envs.devices.ptx.parse import parse
from wpk_envs.devices.ptx.problems import PtxError
from wpk_envs.devices.ptx.program import MAX_STEPS, Program, Warps, execute
from wpk_envs.devices.ptx.syntax import Function, Module

__all__ = [
    "MAX_STEPS",
    "BlockCounts",
    "Buffer",
    "Class",
    "Cycles",
    "Function",
    "Module",
    "Program",
    "PtxError",
    "Warps",
    "execute",
    "parse",
]

"""A kernel that is decoded once and run many times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from wpk_envs.devices.ptx.counts import BlockCounts, Cycles
from wpk_envs.devices.ptx.memory import Argument
from wpk_envs.devices.ptx.syntax import Function

if TYPE_CHECKING:
    from wpk_envs.devices.ptx.skeleton import Skeleton

Warps = Literal["forward", "reverse", "together"]
"""How the threads of a block take turns.

``"forward"`` and ``"reverse"``: warp after warp, each up to the next barrier, so that where a barrier between
warps is missing at least one of the two reads a wrong value or one that nothing has written. ``"together"``: all
threads in lock step, which is the fastest and shows no missing barrier.
"""

MAX_STEPS = 20_000_000
"""Instructions per warp of a block after which the block counts as endless: some tenths of a second per warp."""

Extent = Sequence[int]
"""Sizes along x, y and z; those left out are 1."""


class Program:
    """One kernel, ready to run.

    Attributes:
        function: The parsed kernel.
        code: Its micro-operations.
    """

    def __init__(self, function: Function) -> None:
        """Decode a kernel (a few milliseconds).

        Raises:
            PtxError: For anything in it that the interpreter does not know.
        """
        from wpk_envs.devices.ptx.decode import decode

        self.function = function
        self.code = decode(function)

    def run(
        self,
        grid: Extent,
        block: Extent,
        arguments: Sequence[Argument],
        blocks: Iterable[int] | None = None,
        warps: Warps = "forward",
        max_steps: int = MAX_STEPS,
        dynamic_shared: int = 0,
    ) -> None:
        """Run blocks of the kernel on arrays, in place.

        Args:
            grid: Blocks along x, y and z.
            block: Threads of a block along x, y and z.
            arguments: One per parameter. Arrays that are not writeable are inputs; writeable ones are outputs, and
                reading an element of them that the kernel has not written is an error (see `Buffer`).
            blocks: Linear numbers (x fastest) of the blocks to run; all if None.
            warps: In which order the threads of a block take turns.
            max_steps: Instructions per warp of a block after which the block counts as endless.
            dynamic_shared: Bytes of the ``extern __shared__`` array.

        Raises:
            PtxError: For a launch that does not fit the kernel, and for every access, barrier or loop in it that
                is not allowed; the sentence names the instruction, the thread, the block and the array. Blocks
                that were run before keep what they have written.
        """
        from wpk_envs.devices.ptx.launch import Launch

        launch = Launch(self.code, grid, block, warps, max_steps)
        launch.bind(arguments, dynamic_shared)
        launch.run(blocks)

    def count(
        self,
        grid: Extent,
        block: Extent,
        arguments: Sequence[Argument],
        cycles: Cycles,
        blocks: Iterable[int] | None = None,
        max_steps: int = MAX_STEPS,
        dynamic_shared: int = 0,
    ) -> list[BlockCounts]:
        """Count what blocks of the kernel do, whole, without computing any data.

        Args:
            grid: Blocks along x, y and z.
            block: Threads of a block along x, y and z.
            arguments: One per parameter. Only the sizes of arrays matter; their memory is never touched, so that
                ``np.empty`` does.
            cycles: What instructions cost, for the paths.
            blocks: Linear numbers (x fastest) of the blocks to count; all if None.
            max_steps: Micro-operations of a block's skeleton after which it counts as endless.
            dynamic_shared: Bytes of the ``extern __shared__`` array.

        Raises:
            PtxError: As `run`, but for what depends on data; and if an address or a branch does.
        """
        from wpk_envs.devices.ptx.counter import count

        return count(self._skeleton, grid, block, arguments, cycles, blocks, max_steps, dynamic_shared)

    @cached_property
    def _skeleton(self) -> Skeleton:
        from wpk_envs.devices.ptx.skeleton import skeleton

        return skeleton(self.code)


def execute(function: Function, grid: Extent, block: Extent, arguments: Sequence[Argument], **options: Any) -> None:
    """Decode a kernel and run it once; the options are those of `Program.run`."""
    Program(function).run(grid, block, arguments, **options)

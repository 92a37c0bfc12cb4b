"""Memory planning: buffers whose lives do not overlap share memory.

Offsets are found greedily by size, as in "Efficient Memory Management for Deep Neural Net Inference" (arXiv
2001.03288): the largest buffer first, each at the lowest place that is free during its whole life.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wpk_envs.planner.assembly import Assembly

ALIGNMENT = 64
"""Bytes; kernels read whole vectors."""


@dataclass(frozen=True)
class MemoryPlan:
    """Where every buffer lies in one arena.

    Attributes:
        offsets: In bytes, by name of the buffer; those of aliases included.
        bytes: Size of the arena: the peak.
        unshared_bytes: What all buffers would take side by side.
    """

    offsets: Mapping[str, int]
    bytes: int
    unshared_bytes: int


def plan_memory(assembly: Assembly, share: bool = True) -> MemoryPlan:
    """Place all buffers of an assembly.

    Args:
        assembly: Steps and buffers.
        share: Whether buffers may lie where others lay before.
    """
    lives = _lives(assembly)
    sizes = {name: -(-max(1, assembly.buffers[name].bytes) // ALIGNMENT) * ALIGNMENT for name in lives}
    placed: dict[str, int] = {}
    for name in sorted(lives, key=lambda each: (-sizes[each], lives[each])):
        others = [other for other in placed if not share or _overlap(lives[name], lives[other])]
        placed[name] = _lowest_gap(
            sizes[name], sorted((placed[other], placed[other] + sizes[other]) for other in others)
        )
    offsets = {name: placed[assembly.root(name)] + assembly.offset(name) for name in assembly.buffers}
    peak = max((placed[name] + sizes[name] for name in placed), default=0)
    return MemoryPlan(offsets, peak, sum(sizes.values()))


def _lives(assembly: Assembly) -> dict[str, tuple[int, int]]:
    """First and last step of every buffer with memory of its own.

    Inputs are filled before the first step and live to the end, so that a program can run again on what it holds.
    """
    end = len(assembly.steps)
    lives: dict[str, tuple[int, int]] = {}

    def touch(name: str, step: int) -> None:
        root = assembly.root(name)
        first, last = lives.get(root, (step, step))
        lives[root] = (min(first, step), max(last, step))

    for name in (*assembly.inputs, *assembly.constants.values()):  # constants are written when the plan is loaded
        touch(name, -1)
        touch(name, end)
    for position, step in enumerate(assembly.steps):
        for name in (*step.inputs, *step.outputs):
            touch(name, position)
    for name in assembly.outputs:
        touch(name, end)
    return lives


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _lowest_gap(size: int, taken: list[tuple[int, int]]) -> int:
    """The lowest offset with room between intervals that are sorted by their starts."""
    offset = 0
    for start, stop in taken:
        if start - offset >= size:
            break
        offset = max(offset, stop)
    return offset

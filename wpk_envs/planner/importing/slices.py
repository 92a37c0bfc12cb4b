"""Slices of both frameworks: pieces of a tensor along one axis."""

from __future__ import annotations

from collections.abc import Sequence

from wpk_envs.planner.importing.builder import Builder


def piece(builder: Builder, name: str, x: str, axis: int, start: int | None, stop: int | None) -> str:
    """Write a slice, counted as Python does: negative indices from the end, and what is beyond it cut off.

    Args:
        builder: Where to.
        name: Of the node.
        x: Name of the tensor.
        axis: Counted from the front.
        start: First index; none for the axis's own.
        stop: First index behind; none for the end.

    Returns:
        The slice's name; the tensor itself if that is all of it.
    """
    shape = builder.tensors[x].shape
    start, stop, _ = slice(start, stop).indices(shape[axis])
    stop = max(start, stop)
    if stop - start == shape[axis]:
        return x
    sliced = (*shape[:axis], stop - start, *shape[axis + 1 :])
    return builder.add("slice", [x], sliced, name, {"axis": axis, "start": start, "stop": stop})


def pieces(builder: Builder, name: str, x: str, axis: int, sizes: Sequence[int]) -> list[str]:
    """Write slices one behind the other.

    Args:
        builder: Where to.
        name: Of the nodes.
        x: Name of the tensor.
        axis: Counted from the front.
        sizes: Of the slices along the axis.

    Returns:
        Their names.
    """
    found, start = [], 0
    for size in sizes:
        found.append(piece(builder, name, x, axis, start, start + size))
        start += size
    return found

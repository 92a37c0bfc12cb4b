"""Counterparts of ATen's slices and splits."""

from __future__ import annotations

from wpk_envs.planner.importing.slices import piece, pieces
from wpk_envs.planner.importing.torch_call import Call


def _axis(call: Call) -> tuple[int, int]:
    """The axis that a call is about, counted from the front, and its extent."""
    shape = call.shape_of("self")
    axis = call["dim"] % len(shape)
    return axis, shape[axis]


def _slice(call: Call) -> str | None:
    if call["step"] != 1:
        return None
    axis, _ = _axis(call)
    return piece(call.builder, call.name, call["self"].name, axis, call["start"], call["end"])


def _select(call: Call) -> str:
    axis, extent = _axis(call)
    start = call["index"] % extent
    return call.reshape(piece(call.builder, call.name, call["self"].name, axis, start, start + 1))


def _split(call: Call) -> list[str] | None:
    axis, extent = _axis(call)
    size = call["split_size"]
    if extent == 0:
        return None
    sizes = [min(size, extent - start) for start in range(0, extent, size)]
    return pieces(call.builder, call.name, call["self"].name, axis, sizes)


def _split_with_sizes(call: Call) -> list[str]:
    return pieces(call.builder, call.name, call["self"].name, _axis(call)[0], call["split_sizes"])


def _unbind(call: Call) -> list[str]:
    axis, extent = _axis(call)
    return [call.reshape(name) for name in pieces(call.builder, call.name, call["self"].name, axis, [1] * extent)]


SEVERAL = {"split": _split, "split_with_sizes": _split_with_sizes, "unbind": _unbind}
"""The rule for each operator with a list of results: it gives the name of each."""

RULES = {"slice": _slice, "select": _select, **SEVERAL}
"""The rule for each slice, by the name that its overloads share."""

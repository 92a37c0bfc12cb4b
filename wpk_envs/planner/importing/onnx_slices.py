"""Counterparts of ONNX operators that take pieces of a tensor."""

from __future__ import annotations

from wpk_envs.planner.importing.onnx_call import Call
from wpk_envs.planner.importing.slices import piece, pieces


def _slice(call: Call) -> str | None:
    if not call.fixed(1, 2, 3, 4):
        return None
    starts, stops = call.parameter("starts", 1), call.parameter("ends", 2)
    axes, steps = call.parameter("axes", 3, range(len(starts))), call.parameter("steps", 4, [])
    if any(step != 1 for step in steps):
        return None
    result = call.x
    for axis, start, stop in zip(axes, starts, stops):
        result = piece(call.builder, call.name, result, axis % len(call.shape), start, stop)
    return result


def _split(call: Call) -> list[str] | None:
    """Into parts of given sizes, or of one size but for the last."""
    if not call.fixed(1):
        return None
    shape = call.shape_of(0)
    axis = call.attributes.get("axis", 0) % len(shape)
    size = -(-shape[axis] // call.outputs)
    sizes = call.parameter("split", 1) or [size] * call.outputs
    return pieces(call.builder, call.name, call.x, axis, sizes)


def _gather(call: Call) -> str | None:
    """Of one index, which stands for a slice of length 1."""
    indices, shape = call.constant(1), call.shape_of(0)
    axis = call.attributes.get("axis", 0) % len(shape)
    if indices is None or indices.size != 1 or not -shape[axis] <= indices.item() < shape[axis]:
        return None
    start = indices.item() % shape[axis]
    return call.reshape(piece(call.builder, call.name, call.x, axis, start, start + 1))


RULES = {"Slice": _slice, "Split": _split, "Gather": _gather}
"""The rule for each operator that takes pieces."""

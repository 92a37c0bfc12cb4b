"""What every instruction reads and writes, and which instructions addresses and branches depend on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wpk_envs.devices.ptx.layout import Column, Kind
from wpk_envs.devices.ptx.problems import PtxError
from wpk_envs.devices.ptx.rows import Code

Operation = list[int]
"""A micro-operation: one number per `Column`."""


@dataclass
class Flow:
    """One instruction.

    Attributes:
        kind: Its `isa.Class`.
        start: Place of its first micro-operation.
        operations: Its micro-operations.
        reads: Rows whose values it takes from other instructions.
        writes: Rows that it sets.
        roots: Those that say where it accesses memory or what runs next.
    """

    kind: int
    start: int
    operations: list[Operation]
    reads: list[int]
    writes: list[int]
    roots: list[int]


def flows(code: Code) -> list[Flow]:
    """Every instruction of a kernel, in order, and last the exit that the decoder adds at its end."""
    groups: list[list[Operation]] = [[] for _ in range(len(code.function.instructions) + 1)]
    for operation in code.code.tolist():
        groups[operation[Column.INSTRUCTION]].append(operation)
    found, start = [], 0
    for group in groups:
        found.append(_flow(start, group))
        start += len(group)
    return found


def _flow(start: int, group: list[Operation]) -> Flow:
    reads, writes = _reads(group[0]), _writes(group[0])
    for operation in group[1:]:
        reads += [row for row in _reads(operation) if row not in writes]
        writes += _writes(operation)
    kind = max([operation[Column.CLASS] for operation in group])
    return Flow(kind, start, group, reads, writes, _roots(group))


def _reads(operation: Operation) -> list[int]:
    kind, guard = operation[Column.KIND], operation[Column.GUARD]
    rows = [] if kind == Kind.LOAD else operation[Column.B : Column.E + 1]
    value = operation[Column.D] if kind == Kind.STORE else -1
    return [row for row in (operation[Column.A], *rows, value, guard) if row >= 0]


def _writes(operation: Operation) -> list[int]:
    kind = operation[Column.KIND]
    if kind == Kind.STORE:
        return []
    rows = (operation[Column.D], *operation[Column.B : Column.E + 1]) if kind == Kind.LOAD else (operation[Column.D],)
    return [row for row in rows if row >= 0]


def _roots(group: list[Operation]) -> list[int]:
    """Rows that the last micro-operation needs that is no computation, followed back through those before it."""
    needed: set[int] = set()
    for operation in reversed(group):
        if operation[Column.KIND] > Kind.DIVIDE:
            address = operation[Column.A] if operation[Column.KIND] in (Kind.LOAD, Kind.STORE) else -1
            needed |= {row for row in (address, operation[Column.GUARD]) if row >= 0}
        elif not needed.isdisjoint(_writes(operation)):
            needed = needed.difference(_writes(operation)).union(_reads(operation))
    return list(needed)


def deciding(code: Code, found: Sequence[Flow]) -> list[bool]:
    """Which instructions decide what is accessed and what runs.

    Raises:
        PtxError: If memory decides it, which has no values while a kernel is counted.
    """
    writers: dict[int, list[int]] = {}
    for number, flow in enumerate(found):
        for row in flow.writes:
            writers.setdefault(row, []).append(number)
    chosen, left = [bool(flow.roots) for flow in found], {row for flow in found for row in flow.roots}
    seen = set(left)
    while left:
        for number in writers.get(left.pop(), ()):
            if any(operation[Column.KIND] == Kind.LOAD for operation in found[number].operations):
                raise refusal(code, number, "an address or a branch depends on what it reads")
            chosen[number] = True
            left |= _unseen(found[number].reads, seen)
    return chosen


def _unseen(rows: Iterable[int], seen: set[int]) -> set[int]:
    fresh = set(rows) - seen
    seen |= fresh
    return fresh


def refusal(code: Code, number: int, why: str) -> PtxError:
    """The error for an instruction that cannot be counted."""
    instruction = code.function.instructions[number]
    text = " ".join(instruction.text.split())
    place = f"line {instruction.line} of kernel {code.function.name}"
    return PtxError(f"{place} cannot be counted: {why} in '{text}'")

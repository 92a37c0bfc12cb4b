"""A kernel without its data: what is left when everything goes that no address and no branch depends on.

A skeleton is what is run to count. Its code is cut into *straight lines*, which nothing enters but at their start
and nothing leaves but at their end. Each starts with a micro-operation of its own (`Kind.ENTER`), which counts all
the line's instructions, so that those that decide nothing need not be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wpk_envs.devices.ptx.flow import Flow, deciding, flows, refusal
from wpk_envs.devices.ptx.isa import Class
from wpk_envs.devices.ptx.layout import Column, Kind
from wpk_envs.devices.ptx.rows import Code
from wpk_envs.devices.ptx.tally import FIRST_TIME, ORIGIN, SOURCES, TARGETS, UNREAD

_SHARED = (Class.LOAD_SHARED, Class.STORE_SHARED)
_GENERIC = (Class.LOAD_GENERIC, Class.STORE_GENERIC)


@dataclass(frozen=True)
class Skeleton:
    """A kernel, ready to be counted.

    Attributes:
        code: Its micro-operations.
        lines: First instruction of every straight line, and of what follows the last.
        kinds: Class of every instruction.
        times: Rows of the table of times that every instruction sets, `TARGETS` of them, and reads, `SOURCES`.
        rows: Rows of that table.
        slots: Number of accesses to shared memory.
    """

    code: Code
    lines: np.ndarray
    kinds: np.ndarray
    times: np.ndarray
    rows: int
    slots: int


def skeleton(code: Code) -> Skeleton:
    """Take a kernel's data away.

    Raises:
        PtxError: If an address or a branch depends on data, or an address does not say which memory it is of.
    """
    found = flows(code)
    for number, flow in enumerate(found):
        if flow.kind in _GENERIC:
            raise refusal(code, number, "the kind of memory is not known")
    heads = _heads(found)
    table, slots = _cut(found, deciding(code, found), heads)
    times, rows = _times(found[:-1])
    kinds = np.array([flow.kind for flow in found[:-1]], np.int64)
    return Skeleton(replace(code, code=table), np.array([*heads, len(found) - 1]), kinds, times, rows, slots)


def _heads(found: Sequence[Flow]) -> list[int]:
    """The first instruction of every straight line."""
    places = {flow.start: number for number, flow in enumerate(found)}
    heads = {0}
    for number, flow in enumerate(found[:-1]):
        last = flow.operations[-1]
        if last[Column.KIND] == Kind.BRANCH:
            heads.add(places[last[Column.TARGET]])
        if last[Column.KIND] in (Kind.BRANCH, Kind.BARRIER, Kind.EXIT):
            heads.add(number + 1)
    return sorted(heads)


def _cut(found: Sequence[Flow], chosen: Sequence[bool], heads: Sequence[int]) -> tuple[np.ndarray, int]:
    """The code that is left, and its number of accesses to shared memory."""
    table: list[list[int]] = []
    lines, moved, slots = {head: line for line, head in enumerate(heads)}, {}, 0
    for number, flow in enumerate(found):
        if number in lines:
            moved[flow.start] = len(table)
            table.append(_enter(lines[number], number))
        table += _kept(flow, chosen[number])
        if flow.kind in _SHARED:
            table[-1][Column.SLOT] = slots
            slots += 1
    for operation in table:
        if operation[Column.KIND] == Kind.BRANCH:
            operation[Column.TARGET] = moved[operation[Column.TARGET]]
    return np.array(table, np.int64), slots


def _kept(flow: Flow, decides: bool) -> list[list[int]]:
    """The micro-operations of an instruction that stay: what decides, and accesses without what follows them."""
    effects = [at for at, operation in enumerate(flow.operations) if operation[Column.KIND] > Kind.DIVIDE]
    count = effects[-1] + 1 if effects else len(flow.operations) if decides else 0
    return [list(operation) for operation in flow.operations[:count]]


def _enter(line: int, number: int) -> list[int]:
    operation = [-1] * len(Column)
    operation[Column.KIND], operation[Column.SLOT], operation[Column.INSTRUCTION] = Kind.ENTER, line, number
    return operation


def _times(found: Sequence[Flow]) -> tuple[np.ndarray, int]:
    """Rows of times by instruction, and their number: only of registers that are both written and read."""
    written = {row for flow in found for row in flow.writes}
    read = {row for flow in found for row in flow.reads}
    rows = {row: FIRST_TIME + number for number, row in enumerate(sorted(written & read))}
    times = np.full((len(found), TARGETS + SOURCES), ORIGIN, np.int64)
    times[:, :TARGETS] = UNREAD
    for instruction, flow in zip(times, found):
        targets = [rows[row] for row in flow.writes if row in rows]
        sources = [rows[row] for row in flow.reads if row in rows]
        instruction[: len(targets)] = targets
        instruction[TARGETS : TARGETS + len(sources)] = sources
    return times, FIRST_TIME + len(rows)

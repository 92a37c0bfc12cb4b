"""Compiled primitives that run over all lanes of a group, for use inside the machine's loop.

Every argument is an integer, an address if it names a row; rows of registers are contiguous, one element per
lane, and the number of lanes is a multiple of `vectors.WIDTH`. A *mask* is a row of 32-bit words, -1 for
a lane that takes part and 0 for one that does not; memory is never touched for the latter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from wpk_envs.devices.ptx.emit import INT, Emitter
from wpk_envs.devices.ptx.layout import CELLS
from wpk_envs.devices.ptx.operations import OPERATIONS, Operation
from wpk_envs.devices.ptx.tally import SOURCES, TARGETS

Primitive = tuple[Any, Callable[..., Any]]


def _primitive(build: Callable[..., Any], arguments: int, result: bool = False) -> Primitive:
    """What numba wants of an intrinsic: the types, and a function that emits the code."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        made = build(Emitter(builder), *values)
        return made if result else context.get_dummy_value()

    return (types.int64 if result else types.void)(*[types.int64] * arguments), generate


@intrinsic
def compute(typing: Any, number: Any, lanes: Any, d: Any, a: Any, b: Any, c: Any, e: Any) -> Primitive:
    """Run micro-operation ``number`` (its place in `OPERATIONS`) on rows; operands it lacks are ignored."""

    def build(emitter: Emitter, number: Any, lanes: Any, d: Any, *sources: Any) -> None:
        def case(operation: Operation) -> Callable[[], None]:
            def one(lane: Any) -> None:
                operands = [emitter.read(letter, row, lane) for letter, row in zip(operation.operands, sources)]
                emitter.write(operation.build(emitter, *operands), d, lane)

            return lambda: emitter.each(lanes, one)

        emitter.switch(number, [case(operation) for operation in OPERATIONS.values()])

    return _primitive(build, 7)


@intrinsic
def blend(typing: Any, wide: Any, lanes: Any, mask: Any, d: Any, a: Any) -> Primitive:
    """Copy a row of 32-bit (or, if ``wide`` is 1, 64-bit) registers for the lanes of a mask."""

    def build(emitter: Emitter, wide: Any, lanes: Any, mask: Any, d: Any, a: Any) -> None:
        def case(letter: str) -> Callable[[], None]:
            def one(lane: Any) -> None:
                old, new = emitter.read(letter, d, lane), emitter.read(letter, a, lane)
                emitter.write(emitter.ir.select(emitter.mask(mask, lane), new, old), d, lane)

            return lambda: emitter.each(lanes, one)

        emitter.switch(wide, [case("w"), case("d")])

    return _primitive(build, 5)


@intrinsic
def restrict(typing: Any, lanes: Any, target: Any, mask: Any, predicate: Any, wanted: Any) -> Primitive:
    """Write the lanes of a mask whose predicate is ``wanted`` (0 or -1) to another mask; gives their number."""

    def build(emitter: Emitter, lanes: Any, target: Any, mask: Any, predicate: Any, wanted: Any) -> Any:
        def one(lane: Any) -> Any:
            flips = emitter.spread(emitter.ir.icmp_signed("==", wanted, ir.Constant(INT, 0)))
            like = emitter.ir.xor(emitter.mask(predicate, lane), flips)
            both = emitter.ir.and_(emitter.mask(mask, lane), like)
            emitter.write(emitter.truth(both), target, lane)
            return both

        return emitter.count(lanes, one)

    return _primitive(build, 5, result=True)


@intrinsic
def zeros(typing: Any, wide: Any, lanes: Any, mask: Any, a: Any) -> Primitive:
    """How many lanes of a mask hold zero in a 32-bit (or, if ``wide`` is 1, 64-bit) row."""

    def build(emitter: Emitter, wide: Any, lanes: Any, mask: Any, a: Any) -> Any:
        def case(letter: str, bits: int) -> Callable[[], Any]:
            def one(lane: Any) -> Any:
                zero = emitter.ir.icmp_signed("==", emitter.read(letter, a, lane), emitter.whole(0, bits))
                return emitter.ir.and_(emitter.mask(mask, lane), zero)

            return lambda: emitter.count(lanes, one)

        return emitter.switch(wide, [case("w", 32), case("d", 64)])

    return _primitive(build, 4, result=True)


@intrinsic
def outside(typing: Any, lanes: Any, mask: Any, address: Any, delta: Any, limit: Any, low: Any) -> Primitive:
    """How many lanes of a mask may not access ``address + delta``: past ``limit``, or with a bit of ``low`` set."""

    def build(emitter: Emitter, lanes: Any, mask: Any, address: Any, delta: Any, limit: Any, low: Any) -> Any:
        def one(lane: Any) -> Any:
            offset = emitter.ir.add(emitter.read("d", address, lane), emitter.spread(delta))
            beyond = emitter.ir.icmp_unsigned(">", offset, emitter.spread(limit))
            odd = emitter.ir.and_(offset, emitter.spread(low))
            uneven = emitter.ir.icmp_signed("!=", odd, emitter.whole(0, 64))
            return emitter.ir.and_(emitter.mask(mask, lane), emitter.ir.or_(beyond, uneven))

        return emitter.count(lanes, one)

    return _primitive(build, 6, result=True)


@intrinsic
def gather(typing: Any, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any, d: Any) -> Primitive:
    """Load one cell (its place in `CELLS`) per lane of a mask into a row; other lanes keep their registers.

    A lane's cell is at its address plus ``delta`` plus its number times ``stride``.
    """

    def build(
        emitter: Emitter, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any, d: Any
    ) -> None:
        def case(name: str) -> Callable[[], None]:
            bits, letter = _width(name)

            def one(lane: Any) -> None:
                here, old = emitter.mask(mask, lane), emitter.read(letter, d, lane)
                pointers = emitter.pointers(bits, address, delta, stride, lane)
                value = emitter.gather(bits, pointers, here, emitter.resize(old, bits))
                value = emitter.resize(value, max(bits, 32), signed=name.startswith("s"))
                emitter.write(emitter.ir.select(here, value, old), d, lane)

            return lambda: emitter.each(lanes, one)

        emitter.switch(cell, [case(name) for name in CELLS])

    return _primitive(build, 7)


@intrinsic
def scatter(typing: Any, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any, a: Any) -> Primitive:
    """Store one cell per lane of a mask from a row; of lanes with the same cell the last one wins."""

    def build(
        emitter: Emitter, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any, a: Any
    ) -> None:
        def case(name: str) -> Callable[[], None]:
            bits, letter = _width(name)

            def one(lane: Any) -> None:
                value = emitter.resize(emitter.read(letter, a, lane), bits)
                emitter.scatter(value, emitter.pointers(bits, address, delta, stride, lane), emitter.mask(mask, lane))

            return lambda: emitter.each(lanes, one)

        emitter.switch(cell, [case(name) for name in CELLS])

    return _primitive(build, 7)


@intrinsic
def unwritten(typing: Any, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any) -> Primitive:
    """How many lanes of a mask would read a cell of which some byte's flag is not set."""

    def build(emitter: Emitter, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any) -> Any:
        def case(name: str) -> Callable[[], Any]:
            bits, _ = _width(name)

            def one(lane: Any) -> Any:
                pointers, ones = emitter.pointers(bits, address, delta, stride, lane), emitter.whole(-1, bits)
                flags = emitter.gather(bits, pointers, emitter.mask(mask, lane), ones)
                return emitter.ir.icmp_signed("!=", flags, ones)

            return lambda: emitter.count(lanes, one)

        return emitter.switch(cell, [case(name) for name in CELLS])

    return _primitive(build, 6, result=True)


@intrinsic
def mark(typing: Any, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any) -> Primitive:
    """Set the flags of every byte of one cell per lane of a mask."""

    def build(emitter: Emitter, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any) -> None:
        def case(name: str) -> Callable[[], None]:
            bits, _ = _width(name)

            def one(lane: Any) -> None:
                ones = emitter.whole(-1, bits)
                emitter.scatter(ones, emitter.pointers(bits, address, delta, stride, lane), emitter.mask(mask, lane))

            return lambda: emitter.each(lanes, one)

        emitter.switch(cell, [case(name) for name in CELLS])

    return _primitive(build, 6)


@intrinsic
def differing(typing: Any, lanes: Any, mask: Any, old_mask: Any, address: Any, old: Any, moved: Any) -> Primitive:
    """How many lanes are not the same in two masks, or are and have an address that has not moved by this much."""

    def build(emitter: Emitter, lanes: Any, mask: Any, old_mask: Any, address: Any, old: Any, moved: Any) -> Any:
        def one(lane: Any) -> Any:
            here, then = emitter.mask(mask, lane), emitter.mask(old_mask, lane)
            expected = emitter.ir.add(emitter.read("d", old, lane), emitter.spread(moved))
            elsewhere = emitter.ir.icmp_signed("!=", emitter.read("d", address, lane), expected)
            return emitter.ir.or_(emitter.ir.xor(here, then), emitter.ir.and_(here, elsewhere))

        return emitter.count(lanes, one)

    return _primitive(build, 6, result=True)


@intrinsic
def advance(typing: Any, warps: Any, active: Any, end: Any, flow: Any) -> Primitive:
    """Follow one instruction of the active warps through the two halves of the table of times (see `tally`).

    ``end`` is the address of the table's row END, ``flow`` of the instruction's row in `Tally.flows`.
    """

    def build(emitter: Emitter, warps: Any, active: Any, end: Any, flow: Any) -> None:
        latency, issue, *rows = (emitter.field(flow, number) for number in range(2 + TARGETS + SOURCES))
        targets, sources = rows[:TARGETS], rows[TARGETS:]
        half = emitter.ir.mul(warps, ir.Constant(INT, 8))

        def one(warp: Any) -> None:
            here = emitter.mask(active, warp)
            for in_order in (False, True):
                shift = half if in_order else ir.Constant(INT, 0)
                bound = emitter.ir.add(end, shift)
                begin = emitter.largest([emitter.read("d", emitter.ir.add(row, shift), warp) for row in sources])
                ended = emitter.read("d", bound, warp)
                begin = emitter.call("smax", begin, ended) if in_order else begin
                done = emitter.ir.add(begin, emitter.spread(latency))
                after = emitter.ir.add(begin, emitter.spread(issue)) if in_order else emitter.call("smax", ended, done)
                emitter.replace(here, after, bound, warp)
                for row in targets:
                    emitter.replace(here, done, emitter.ir.add(row, shift), warp)

        emitter.each(warps, one)

    return _primitive(build, 4)


def _width(cell: str) -> tuple[int, str]:
    """Bits of a cell, and the letter of the registers that hold it."""
    bits = int(cell[1:])
    return bits, "d" if bits == 64 else "w"

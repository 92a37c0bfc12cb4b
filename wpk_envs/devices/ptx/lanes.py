"""Compiled primitives that run over all lanes of a group, for use inside the machine's loop.

Every address is a plain integer; rows of registers are contiguous, one element per lane, and the number of
lanes is a multiple of `vectors.WIDTH`. A *mask* is a row of 32-bit words, -1 for a lane that takes part
and 0 for one that does not; memory is never touched for the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from wpk_envs.devices.ptx.operations import OPERATIONS
from wpk_envs.devices.ptx.vectors import ELEMENTS, WIDTH, Vectors, integer, vector

INT = ir.IntType(64)
WORD = ir.IntType(32)

CELLS = ("u8", "s8", "u16", "s16", "b32", "b64")
"""Kinds of memory cells by number: the width in bits, and how a narrow one fills its register."""


def _bits(cell: str) -> int:
    return int(cell[1:])


def _row(builder: Any, kind: Any, address: Any, lane: Any) -> Any:
    """Pointer to the vector of a register row that starts at a lane."""
    size = ir.Constant(INT, kind.element.width // 8 if isinstance(kind.element, ir.IntType) else 4)
    return builder.inttoptr(builder.add(address, builder.mul(lane, size)), kind.as_pointer())


def _read(builder: Any, kind: Any, address: Any, lane: Any) -> Any:
    return builder.load(_row(builder, kind, address, lane), align=4)


def _write(builder: Any, value: Any, address: Any, lane: Any) -> None:
    builder.store(value, _row(builder, value.type, address, lane), align=4)


def _mask(builder: Any, address: Any, lane: Any) -> Any:
    return Vectors(builder).holds(_read(builder, integer(32), address, lane))


def _each_vector(builder: Any, lanes: Any, body: Callable[[Any], None]) -> None:
    """A loop over the lanes; the body gets the first lane of each vector."""
    before, loop = builder.block, builder.function.append_basic_block("vector")
    builder.branch(loop)
    builder.position_at_end(loop)
    lane = builder.phi(INT)
    lane.add_incoming(ir.Constant(INT, 0), before)
    body(lane)
    after = builder.add(lane, ir.Constant(INT, WIDTH))
    lane.add_incoming(after, builder.block)
    end = builder.function.append_basic_block("end")
    builder.cbranch(builder.icmp_signed("<", after, lanes), loop, end)
    builder.position_at_end(end)


def _switch(builder: Any, number: Any, bodies: Sequence[Callable[[], None]]) -> None:
    """Run the body of this number."""
    function = builder.function
    end, default = function.append_basic_block("end"), function.append_basic_block("default")
    chosen = builder.switch(number, default)
    for index, body in enumerate(bodies):
        block = function.append_basic_block(f"case{index}")
        chosen.add_case(ir.Constant(INT, index), block)
        builder.position_at_end(block)
        body()
        builder.branch(end)
    builder.position_at_end(default)
    builder.unreachable()
    builder.position_at_end(end)


def _signature(result: Any, count: int) -> Any:
    return result(*[types.int64] * count)


@intrinsic
def compute(typing: Any, number: Any, lanes: Any, d: Any, a: Any, b: Any, c: Any, e: Any) -> Any:
    """Run micro-operation ``number`` (its place in `OPERATIONS`) on rows; unused operands are ignored."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, lanes, result, *sources = arguments

        def body(operation: Any) -> Callable[[], None]:
            def one(lane: Any) -> None:
                pairs = zip(operation.operands, sources)
                operands = [_read(builder, vector(ELEMENTS[letter]), row, lane) for letter, row in pairs]
                _write(builder, operation.build(Vectors(builder), *operands), result, lane)

            return lambda: _each_vector(builder, lanes, one)

        _switch(builder, number, [body(operation) for operation in OPERATIONS.values()])
        return context.get_dummy_value()

    return _signature(types.void, 7), generate


@intrinsic
def blend(typing: Any, wide: Any, lanes: Any, mask: Any, d: Any, a: Any) -> Any:
    """Copy a row of 32-bit (or, if ``wide``, 64-bit) registers for the lanes of a mask."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, lanes, mask, target, source = arguments

        def body(kind: Any) -> Callable[[], None]:
            def one(lane: Any) -> None:
                old, new = _read(builder, kind, target, lane), _read(builder, kind, source, lane)
                _write(builder, builder.select(_mask(builder, mask, lane), new, old), target, lane)

            return lambda: _each_vector(builder, lanes, one)

        _switch(builder, wide, [body(integer(32)), body(integer(64))])
        return context.get_dummy_value()

    return _signature(types.void, 5), generate


def _counter(builder: Any, lanes: Any, one: Callable[[Any], Any]) -> Any:
    """Count the lanes for which a vector of truth values holds."""
    total = cgutils.alloca_once_value(builder, ir.Constant(INT, 0))

    def add(lane: Any) -> None:
        bits = builder.bitcast(one(lane), ir.IntType(WIDTH))
        name = f"llvm.ctpop.i{WIDTH}"
        found = Vectors(builder).intrinsic(name, ir.IntType(WIDTH), bits)
        builder.store(builder.add(builder.load(total), builder.zext(found, INT)), total)

    _each_vector(builder, lanes, add)
    return builder.load(total)


@intrinsic
def restrict(typing: Any, lanes: Any, target: Any, mask: Any, predicate: Any, wanted: Any) -> Any:
    """Write the lanes of a mask whose predicate is ``wanted`` (0 or -1) to another mask; gives their number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, target, mask, predicate, wanted = arguments

        def one(lane: Any) -> Any:
            like = Vectors(builder).holds(_read(builder, integer(32), predicate, lane))
            flip = builder.icmp_signed("==", wanted, ir.Constant(INT, 0))
            flips = _spread(builder, flip)
            both = builder.and_(_mask(builder, mask, lane), builder.xor(like, flips))
            _write(builder, Vectors(builder).truth(both), target, lane)
            return both

        return _counter(builder, lanes, one)

    return _signature(types.int64, 5), generate


@intrinsic
def zeros(typing: Any, wide: Any, lanes: Any, mask: Any, a: Any) -> Any:
    """How many lanes of a mask hold zero in a 32-bit (or, if ``wide``, 64-bit) row."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, lanes, mask, source = arguments
        total = cgutils.alloca_once_value(builder, ir.Constant(INT, 0))

        def body(bits: int) -> Callable[[], None]:
            def one(lane: Any) -> Any:
                value = _read(builder, integer(bits), source, lane)
                zero = builder.icmp_signed("==", value, Vectors(builder).whole(0, bits))
                return builder.and_(_mask(builder, mask, lane), zero)

            return lambda: builder.store(_counter(builder, lanes, one), total)

        _switch(builder, wide, [body(32), body(64)])
        return builder.load(total)

    return _signature(types.int64, 4), generate


def _spread(builder: Any, value: Any) -> Any:
    """A vector with the same run-time value in every lane."""
    kind = ir.VectorType(value.type, WIDTH)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(WORD, 0))
    zeros = ir.Constant(ir.VectorType(WORD, WIDTH), [ir.Constant(WORD, 0)] * WIDTH)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


@intrinsic
def outside(typing: Any, lanes: Any, mask: Any, address: Any, delta: Any, limit: Any, low: Any) -> Any:
    """How many lanes of a mask may not access ``address + delta``: past ``limit``, or with a bit of ``low`` set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, mask, address, delta, limit, low = arguments
        delta, limit, low = (_spread(builder, x) for x in (delta, limit, low))

        def one(lane: Any) -> Any:
            offset = builder.add(_read(builder, integer(64), address, lane), delta)
            beyond = builder.icmp_unsigned(">", offset, limit)
            uneven = builder.icmp_signed("!=", builder.and_(offset, low), Vectors(builder).whole(0, 64))
            return builder.and_(_mask(builder, mask, lane), builder.or_(beyond, uneven))

        return _counter(builder, lanes, one)

    return _signature(types.int64, 6), generate


def _pointers(builder: Any, address: Any, delta: Any, stride: Any, lane: Any) -> Any:
    """One pointer per lane: its address, plus delta, plus its number times the stride."""
    counts = ir.Constant(integer(64), [ir.Constant(INT, i) for i in range(WIDTH)])
    numbers = builder.add(_spread(builder, lane), counts)
    shift = builder.add(_spread(builder, delta), builder.mul(numbers, _spread(builder, stride)))
    place = builder.add(_read(builder, integer(64), address, lane), shift)
    return builder.inttoptr(place, ir.VectorType(ir.IntType(8).as_pointer(), WIDTH))


def _gather(builder: Any, bits: int, pointers: Any, mask: Any, otherwise: Any) -> Any:
    name = f"llvm.masked.gather.v{WIDTH}i{bits}.v{WIDTH}p0"
    align = ir.Constant(WORD, min(bits // 8, 4))
    return Vectors(builder).intrinsic(name, integer(bits), pointers, align, mask, otherwise)


def _scatter(builder: Any, value: Any, pointers: Any, mask: Any) -> None:
    bits = value.type.element.width
    name = f"llvm.masked.scatter.v{WIDTH}i{bits}.v{WIDTH}p0"
    align = ir.Constant(WORD, min(bits // 8, 4))
    Vectors(builder).intrinsic(name, ir.VoidType(), value, pointers, align, mask)


@intrinsic
def gather(typing: Any, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any, d: Any) -> Any:
    """Load one cell (its place in `CELLS`) per lane of a mask into a row; other lanes keep their registers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        cell, lanes, mask, address, delta, stride, target = arguments

        def body(name: str) -> Callable[[], None]:
            bits = _bits(name)
            register = integer(max(bits, 32))

            def one(lane: Any) -> None:
                vectors = Vectors(builder)
                here, old = _mask(builder, mask, lane), _read(builder, register, target, lane)
                pointers = _pointers(builder, address, delta, stride, lane)
                value = _gather(builder, bits, pointers, here, vectors.resize(old, bits))
                value = vectors.resize(value, max(bits, 32), signed=name.startswith("s"))
                _write(builder, builder.select(here, value, old), target, lane)

            return lambda: _each_vector(builder, lanes, one)

        _switch(builder, cell, [body(name) for name in CELLS])
        return context.get_dummy_value()

    return _signature(types.void, 7), generate


@intrinsic
def scatter(typing: Any, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any, a: Any) -> Any:
    """Store one cell per lane of a mask from a row; of lanes with the same address the last one wins."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        cell, lanes, mask, address, delta, stride, source = arguments

        def body(name: str) -> Callable[[], None]:
            bits = _bits(name)

            def one(lane: Any) -> None:
                value = Vectors(builder).resize(_read(builder, integer(max(bits, 32)), source, lane), bits)
                pointers = _pointers(builder, address, delta, stride, lane)
                _scatter(builder, value, pointers, _mask(builder, mask, lane))

            return lambda: _each_vector(builder, lanes, one)

        _switch(builder, cell, [body(name) for name in CELLS])
        return context.get_dummy_value()

    return _signature(types.void, 7), generate


@intrinsic
def unwritten(typing: Any, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any) -> Any:
    """How many lanes of a mask would read a cell of which some byte's flag is not set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        cell, lanes, mask, address, delta, stride = arguments
        total = cgutils.alloca_once_value(builder, ir.Constant(INT, 0))

        def body(bits: int) -> Callable[[], None]:
            def one(lane: Any) -> Any:
                ones = Vectors(builder).whole(-1, bits)
                here = _mask(builder, mask, lane)
                flags = _gather(builder, bits, _pointers(builder, address, delta, stride, lane), here, ones)
                return builder.icmp_signed("!=", flags, ones)

            return lambda: builder.store(_counter(builder, lanes, one), total)

        _switch(builder, cell, [body(_bits(name)) for name in CELLS])
        return builder.load(total)

    return _signature(types.int64, 6), generate


@intrinsic
def mark(typing: Any, cell: Any, lanes: Any, mask: Any, address: Any, delta: Any, stride: Any) -> Any:
    """Set the flags of every byte of one cell per lane of a mask."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        cell, lanes, mask, address, delta, stride = arguments

        def body(bits: int) -> Callable[[], None]:
            def one(lane: Any) -> None:
                pointers = _pointers(builder, address, delta, stride, lane)
                _scatter(builder, Vectors(builder).whole(-1, bits), pointers, _mask(builder, mask, lane))

            return lambda: _each_vector(builder, lanes, one)

        _switch(builder, cell, [body(_bits(name)) for name in CELLS])
        return context.get_dummy_value()

    return _signature(types.void, 6), generate

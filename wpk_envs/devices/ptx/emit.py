"""Loops over lanes, rows and memory, in LLVM's intermediate representation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from wpk_envs.devices.ptx.vectors import ELEMENTS, WIDTH, Vectors, integer, vector

INT = ir.IntType(64)
WORD = ir.IntType(32)


class Emitter(Vectors):
    """Builds code that runs over all lanes.

    Rows are given by their address; *lane* is the number of the first lane of a vector. A mask is a row of
    words that are not zero where a lane takes part.
    """

    def _pointer(self, element: Any, row: Any, lane: Any) -> Any:
        """Pointer to one vector of a row."""
        size = ir.Constant(INT, 8 if element == INT else 4)
        return self.ir.inttoptr(self.ir.add(row, self.ir.mul(lane, size)), vector(element).as_pointer())

    def read(self, letter: str, row: Any, lane: Any) -> Any:
        """One vector of a row of elements of a letter (see `vectors.ELEMENTS`)."""
        return self.ir.load(self._pointer(ELEMENTS[letter], row, lane), align=4)

    def write(self, value: Any, row: Any, lane: Any) -> None:
        """Set one vector of a row."""
        self.ir.store(value, self._pointer(value.type.element, row, lane), align=4)

    def replace(self, mask: Any, value: Any, row: Any, lane: Any) -> None:
        """Set those elements of a vector of a row of 64-bit elements for which truth values hold."""
        self.write(self.ir.select(mask, value, self.read("d", row, lane)), row, lane)

    def field(self, record: Any, number: int) -> Any:
        """A 64-bit number of a record of such numbers at an address."""
        place = self.ir.add(record, ir.Constant(INT, 8 * number))
        return self.ir.load(self.ir.inttoptr(place, INT.as_pointer()))

    def largest(self, vectors: Sequence[Any]) -> Any:
        """The larger one in every lane, of signed integers."""
        return functools.reduce(lambda x, y: self.call("smax", x, y), vectors)

    def mask(self, row: Any, lane: Any) -> Any:
        """One vector of a mask, as truth values."""
        return self.holds(self.read("w", row, lane))

    def spread(self, value: Any) -> Any:
        """A vector with the same run-time value in every lane."""
        kind = vector(value.type)
        first = self.ir.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(WORD, 0))
        return self.ir.shuffle_vector(first, ir.Constant(kind, ir.Undefined), self.whole(0))

    def each(self, lanes: Any, body: Callable[[Any], None]) -> None:
        """A loop over the lanes, a vector at a time; there is at least one."""
        before, loop = self.ir.block, self.ir.function.append_basic_block("vector")
        self.ir.branch(loop)
        self.ir.position_at_end(loop)
        lane = self.ir.phi(INT)
        lane.add_incoming(ir.Constant(INT, 0), before)
        body(lane)
        after = self.ir.add(lane, ir.Constant(INT, WIDTH))
        lane.add_incoming(after, self.ir.block)
        end = self.ir.function.append_basic_block("end")
        self.ir.cbranch(self.ir.icmp_signed("<", after, lanes), loop, end)
        self.ir.position_at_end(end)

    def switch(self, number: Any, cases: Sequence[Callable[[], Any]]) -> Any:
        """Run the case of a number; gives what it gives."""
        function, results = self.ir.function, []
        end, default = function.append_basic_block("end"), function.append_basic_block("default")
        chosen = self.ir.switch(number, default)
        for index, case in enumerate(cases):
            block = function.append_basic_block(f"case{index}")
            chosen.add_case(ir.Constant(INT, index), block)
            self.ir.position_at_end(block)
            results.append((case(), self.ir.block))
            self.ir.branch(end)
        self.ir.position_at_end(default)
        self.ir.unreachable()
        self.ir.position_at_end(end)
        return self._merged(results)

    def _merged(self, results: Sequence[tuple[Any, Any]]) -> Any:
        if results[0][0] is None:
            return None
        merged = self.ir.phi(results[0][0].type)
        for value, block in results:
            merged.add_incoming(value, block)
        return merged

    def count(self, lanes: Any, condition: Callable[[Any], Any]) -> Any:
        """How many lanes a vector of truth values holds for."""
        with self.ir.goto_entry_block():
            total = self.ir.alloca(INT)
        self.ir.store(ir.Constant(INT, 0), total)

        def add(lane: Any) -> None:
            bits = self.ir.bitcast(condition(lane), ir.IntType(WIDTH))
            found = self.intrinsic(f"llvm.ctpop.i{WIDTH}", bits.type, bits)
            self.ir.store(self.ir.add(self.ir.load(total), self.ir.zext(found, INT)), total)

        self.each(lanes, add)
        return self.ir.load(total)

    def pointers(self, bits: int, row: Any, delta: Any, stride: Any, lane: Any) -> Any:
        """One pointer to an integer per lane: its address, plus delta, plus its number times the stride."""
        counts = ir.Constant(integer(64), [ir.Constant(INT, i) for i in range(WIDTH)])
        numbers = self.ir.add(self.spread(lane), counts)
        shift = self.ir.add(self.spread(delta), self.ir.mul(numbers, self.spread(stride)))
        return self.ir.inttoptr(self.ir.add(self.read("d", row, lane), shift), vector(ir.IntType(bits).as_pointer()))

    def gather(self, bits: int, pointers: Any, mask: Any, otherwise: Any) -> Any:
        """Load an integer per lane of a mask."""
        name = f"llvm.masked.gather.v{WIDTH}i{bits}.v{WIDTH}p0"
        return self.intrinsic(name, integer(bits), pointers, _alignment(bits), mask, otherwise)

    def scatter(self, value: Any, pointers: Any, mask: Any) -> None:
        """Store an integer per lane of a mask; of lanes with the same pointer the last one wins."""
        bits = value.type.element.width
        name = f"llvm.masked.scatter.v{WIDTH}i{bits}.v{WIDTH}p0"
        self.intrinsic(name, ir.VoidType(), value, pointers, _alignment(bits), mask)


def _alignment(bits: int) -> Any:
    return ir.Constant(WORD, min(bits // 8, 4))

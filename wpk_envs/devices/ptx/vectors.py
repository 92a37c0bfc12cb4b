"""Vector expressions in LLVM's intermediate representation, with the semantics of PTX.

One `Vectors` is made per block of code; its methods take and give vectors of `WIDTH` lanes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

WIDTH = 16
"""Lanes of one vector; LLVM splits it into the registers that the host has."""

ELEMENTS = {"w": ir.IntType(32), "d": ir.IntType(64), "f": ir.FloatType()}
"""Element type of every operand letter."""


def vector(element: Any) -> Any:
    """The vector type of an element type."""
    return ir.VectorType(element, WIDTH)


def integer(bits: int) -> Any:
    """The vector type of integers of this width."""
    return vector(ir.IntType(bits))


class Vectors:
    """Builds vector expressions at the end of a basic block.

    Attributes:
        ir: The llvmlite builder, for everything that LLVM and PTX agree on.
    """

    def __init__(self, builder: Any) -> None:
        self.ir = builder

    def splat(self, kind: Any, value: float | int) -> Any:
        """A vector with the same constant in every lane."""
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * WIDTH)

    def real(self, value: float) -> Any:
        """A float32 constant."""
        return self.splat(vector(ir.FloatType()), value)

    def whole(self, value: int, bits: int = 32) -> Any:
        """An integer constant."""
        return self.splat(integer(bits), value)

    def call(self, name: str, *operands: Any) -> Any:
        """Call an LLVM intrinsic whose result has the type of its first operand."""
        kind = operands[0].type
        return self.intrinsic(f"llvm.{name}.v{WIDTH}{_mangled(kind.element)}", kind, *operands)

    def intrinsic(self, name: str, result: Any, *operands: Any) -> Any:
        """Call a function by its full name."""
        module = self.ir.module
        known = module.globals.get(name)
        function = known or ir.Function(module, ir.FunctionType(result, [x.type for x in operands]), name)
        return self.ir.call(function, operands)

    def holds(self, predicate: Any) -> Any:
        """A predicate register as a vector of truth values."""
        return self.ir.icmp_signed("!=", predicate, self.whole(0))

    def truth(self, condition: Any) -> Any:
        """A vector of truth values as a predicate register."""
        return self.ir.sext(condition, integer(32))

    def resize(self, x: Any, bits: int, signed: bool = False) -> Any:
        """Cut or extend integers to another width."""
        now = x.type.element.width
        if bits < now:
            return self.ir.trunc(x, integer(bits))
        extend = self.ir.sext if signed else self.ir.zext
        return extend(x, integer(bits)) if bits > now else x

    def concatenate(self, low: Any, high: Any) -> Any:
        """Two 32-bit words as one of 64 bits."""
        above = self.ir.shl(self.resize(high, 64), self.whole(32, 64))
        return self.ir.or_(self.resize(low, 64), above)

    def wide_product(self, x: Any, y: Any, signed: bool) -> Any:
        """The product in twice the width."""
        bits = 2 * x.type.element.width
        return self.ir.mul(self.resize(x, bits, signed), self.resize(y, bits, signed))

    def high_product(self, x: Any, y: Any, signed: bool) -> Any:
        """The upper half of the product."""
        bits = x.type.element.width
        product = self.wide_product(x, y, signed)
        return self.resize(self.ir.lshr(product, self.whole(bits, 2 * bits)), bits)

    def divide(self, x: Any, y: Any, signed: bool) -> tuple[Any, Any]:
        """Quotient (towards zero) and remainder; the caller has excluded lanes that divide by zero.

        LLVM leaves a zero divisor and the overflow of the smallest number divided by -1 undefined: such a
        divisor is replaced by 1, and the quotient of -1 is the negated dividend.
        """
        bits = x.type.element.width
        zero = self.whole(0, bits)
        unsafe = self.ir.icmp_signed("==", y, zero)
        minus = self.ir.icmp_signed("==", y, self.whole(-1, bits))
        unsafe = self.ir.or_(unsafe, minus) if signed else unsafe
        divisor = self.ir.select(unsafe, self.whole(1, bits), y)
        if not signed:
            return self.ir.udiv(x, divisor), self.ir.urem(x, divisor)
        quotient = self.ir.select(minus, self.ir.neg(x), self.ir.sdiv(x, divisor))
        return quotient, self.ir.srem(x, divisor)

    def shift_left(self, x: Any, amount: Any) -> Any:
        """Shift left; amounts past the width give 0."""
        bits = x.type.element.width
        inside = self.ir.icmp_unsigned("<", amount, self.whole(bits))
        shifted = self.ir.shl(x, self._bounded(amount, bits))
        return self.ir.select(inside, shifted, self.whole(0, bits))

    def shift_right(self, x: Any, amount: Any, signed: bool) -> Any:
        """Shift right; amounts past the width give 0, or the sign in every bit."""
        bits = x.type.element.width
        if signed:
            return self.ir.ashr(x, self._bounded(amount, bits))
        inside = self.ir.icmp_unsigned("<", amount, self.whole(bits))
        return self.ir.select(inside, self.ir.lshr(x, self._bounded(amount, bits)), self.whole(0, bits))

    def _bounded(self, amount: Any, bits: int) -> Any:
        """A shift amount limited to the width less one."""
        return self.resize(self.call("umin", amount, self.whole(bits - 1)), bits)

    def absolute(self, x: Any) -> Any:
        """The magnitude; the smallest number stays itself."""
        negative = self.ir.icmp_signed("<", x, self.whole(0, x.type.element.width))
        return self.ir.select(negative, self.ir.neg(x), x)

    def _field(self, position: Any, length: Any) -> tuple[Any, Any]:
        """Position and length of a bit field: PTX reads their low 8 bits."""
        byte = self.whole(255)
        return self.ir.and_(position, byte), self.ir.and_(length, byte)

    def extract(self, x: Any, position: Any, length: Any, signed: bool) -> Any:
        """``bfe``: a bit field, filled above with zeros or with its own sign."""
        bits = x.type.element.width
        position, length = self._field(position, length)
        field = self.shift_right(x, position, signed)
        spare = self.call("smax", self.ir.sub(self.whole(bits), length), self.whole(0))
        field = self.shift_right(self.shift_left(field, spare), spare, signed)
        empty = self.ir.icmp_signed("==", length, self.whole(0))
        return self.ir.select(empty, self.whole(0, bits), field)

    def insert(self, x: Any, into: Any, position: Any, length: Any) -> Any:
        """``bfi``: put the low bits of ``x`` into a field of another word."""
        bits = x.type.element.width
        position, length = self._field(position, length)
        ones = self.ir.not_(self.shift_left(self.whole(-1, bits), length))
        mask = self.shift_left(ones, position)
        return self.ir.or_(self.ir.and_(into, self.ir.not_(mask)), self.ir.and_(self.shift_left(x, position), mask))

    def leading_zeros(self, x: Any) -> Any:
        """``clz``: 32 for zero."""
        flag = ir.Constant(ir.IntType(1), 0)
        return self.intrinsic(f"llvm.ctlz.v{WIDTH}i32", x.type, x, flag)

    def permute(self, x: Any, y: Any, selector: Any) -> Any:
        """``prmt``: pick four of eight bytes; the top bit of a nibble spreads the byte's sign instead."""
        source = self.concatenate(x, y)
        result = self.whole(0)
        for byte in range(4):
            nibble = self.ir.lshr(selector, self.whole(4 * byte))
            place = self.ir.shl(self.ir.and_(nibble, self.whole(7)), self.whole(3))
            picked = self.resize(self.ir.lshr(source, self.resize(place, 64)), 8)
            spread = self.ir.ashr(picked, self.whole(7, 8))
            sign = self.ir.icmp_signed("!=", self.ir.and_(nibble, self.whole(8)), self.whole(0))
            picked = self.resize(self.ir.select(sign, spread, picked), 32)
            result = self.ir.or_(result, self.ir.shl(picked, self.whole(8 * byte)))
        return result

    def lookup(self, x: Any, y: Any, z: Any, table: Any) -> Any:
        """``lop3``: any bitwise function of three words, given by its truth table."""
        result = self.whole(0)
        for row in range(8):
            chosen = [word if row >> bit & 1 else self.ir.not_(word) for word, bit in ((x, 2), (y, 1), (z, 0))]
            term = self.ir.and_(self.ir.and_(chosen[0], chosen[1]), chosen[2])
            entry = self.ir.and_(self.ir.lshr(table, self.whole(row)), self.whole(1))
            result = self.ir.or_(result, self.ir.and_(term, self.ir.neg(entry)))
        return result

    def funnel(self, low: Any, high: Any, amount: Any, side: str, mode: str) -> Any:
        """``shf``: shift 64 bits and keep the upper word (left) or the lower one (right)."""
        limited = self.call("umin", amount, self.whole(32)) if mode == "clamp" else self.ir.and_(amount, self.whole(31))
        source, places = self.concatenate(low, high), self.resize(limited, 64)
        if side == "r":
            return self.resize(self.ir.lshr(source, places), 32)
        return self.resize(self.ir.lshr(self.ir.shl(source, places), self.whole(32, 64)), 32)

    def tanh(self, x: Any) -> Any:
        """Hyperbolic tangent as 1 - 2 / (exp(2 x) + 1)."""
        power = self.call("exp2", self.ir.fmul(x, self.real(2.885390043258667)))
        ratio = self.ir.fdiv(self.real(2.0), self.ir.fadd(power, self.real(1.0)))
        return self.ir.fsub(self.real(1.0), ratio)

    def to_integer(self, x: Any, bits: int, signed: bool) -> Any:
        """Convert integral floats; too large ones saturate and NaN gives 0."""
        name = f"llvm.fpto{'s' if signed else 'u'}i.sat.v{WIDTH}i{bits}.v{WIDTH}f32"
        return self.intrinsic(name, integer(bits), x)

    def to_real(self, x: Any, signed: bool) -> Any:
        """Convert integers to the nearest float32."""
        convert = self.ir.sitofp if signed else self.ir.uitofp
        return convert(x, vector(ir.FloatType()))


def _mangled(element: Any) -> str:
    """An element type as LLVM's function names write it."""
    return f"i{element.width}" if isinstance(element, ir.IntType) else "f32"

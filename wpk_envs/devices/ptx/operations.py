"""What one micro-operation does to every lane: a table of vector expressions.

Each entry has a result and up to four operands, one letter each: ``w`` a 32-bit integer, ``d`` a 64-bit
integer, ``f`` a 32-bit float. Predicates are 32-bit integers, 0 or -1. The expression is built with
`Vectors`, whose operators follow the PTX ISA where it differs from LLVM (shifts past the width, say).

Subnormal numbers are kept where ``.ftz`` would flush them (a difference below 1.2e-38), and ``.approx``
functions are computed to float32 accuracy.

Source of the semantics: NVIDIA, "PTX ISA" 8.8, chapter 9 (instruction set).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Expression = Callable[..., Any]


@dataclass(frozen=True)
class Operation:
    """One micro-operation.

    Attributes:
        result: Letter of the result.
        operands: Letters of the operands.
        build: Called with a `Vectors` and one vector per operand; gives the result's vector.
    """

    result: str
    operands: str
    build: Expression


OPERATIONS: dict[str, Operation] = {}


def _add(name: str, signature: str, build: Expression) -> None:
    result, _, operands = signature.partition("=")
    OPERATIONS[name] = Operation(result, operands, build)


def _floats() -> None:
    binary: dict[str, Expression] = {
        "add": lambda v, x, y: v.ir.fadd(x, y),
        "sub": lambda v, x, y: v.ir.fsub(x, y),
        "mul": lambda v, x, y: v.ir.fmul(x, y),
        "div": lambda v, x, y: v.ir.fdiv(x, y),
        "min": lambda v, x, y: v.call("minnum", x, y),
        "max": lambda v, x, y: v.call("maxnum", x, y),
    }
    for name, build in binary.items():
        _add(f"{name}.f32", "f=ff", build)
    _add("fma.f32", "f=fff", lambda v, x, y, z: v.call("fma", x, y, z))
    _add("neg.f32", "f=f", lambda v, x: v.ir.fneg(x))
    _add("rcp.f32", "f=f", lambda v, x: v.ir.fdiv(v.real(1.0), x))
    _add("rsqrt.f32", "f=f", lambda v, x: v.ir.fdiv(v.real(1.0), v.call("sqrt", x)))
    _add("tanh.f32", "f=f", lambda v, x: v.tanh(x))
    for name, function in (("sqrt", "sqrt"), ("ex2", "exp2"), ("lg2", "log2"), ("sin", "sin"), ("cos", "cos")):
        _unary(name, function)
    for name, function in (("abs", "fabs"), ("rmi", "floor"), ("rpi", "ceil"), ("rzi", "trunc"), ("rni", "rint")):
        _unary(name, function)
    _add("sat.f32", "f=f", lambda v, x: v.call("minnum", v.call("maxnum", x, v.real(0.0)), v.real(1.0)))


def _unary(name: str, function: str) -> None:
    _add(f"{name}.f32", "f=f", lambda v, x: v.call(function, x))


def _comparisons() -> None:
    for name, sign in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")):
        _add(f"{name}.f32", "w=ff", lambda v, x, y, s=sign: v.truth(v.ir.fcmp_ordered(s, x, y)))
        _add(f"{name}u.f32", "w=ff", lambda v, x, y, s=sign: v.truth(v.ir.fcmp_unordered(s, x, y)))
        for width, letter in (("32", "w"), ("64", "d")):
            operands = f"w={letter}{letter}"
            _add(f"{name}.s{width}", operands, lambda v, x, y, s=sign: v.truth(v.ir.icmp_signed(s, x, y)))
            _add(f"{name}.u{width}", operands, lambda v, x, y, s=sign: v.truth(v.ir.icmp_unsigned(s, x, y)))
    _add("num.f32", "w=ff", lambda v, x, y: v.truth(v.ir.fcmp_ordered("ord", x, y)))
    _add("nan.f32", "w=ff", lambda v, x, y: v.truth(v.ir.fcmp_unordered("uno", x, y)))


def _integers(width: int, letter: str) -> None:
    """Operations that 32-bit and 64-bit integers share."""
    plain: dict[str, Expression] = {
        "add": lambda v, x, y: v.ir.add(x, y),
        "sub": lambda v, x, y: v.ir.sub(x, y),
        "mul": lambda v, x, y: v.ir.mul(x, y),
        "and": lambda v, x, y: v.ir.and_(x, y),
        "or": lambda v, x, y: v.ir.or_(x, y),
        "xor": lambda v, x, y: v.ir.xor(x, y),
    }
    for name, build in plain.items():
        _add(f"{name}.b{width}", f"{letter}={letter}{letter}", build)
    for kind in "su":
        signed = kind == "s"
        both = f"{letter}={letter}{letter}"
        _add(f"min.{kind}{width}", both, lambda v, x, y, k=kind: v.call(f"{k}min", x, y))
        _add(f"max.{kind}{width}", both, lambda v, x, y, k=kind: v.call(f"{k}max", x, y))
        _add(f"mulhi.{kind}{width}", both, lambda v, x, y, s=signed: v.high_product(x, y, s))
        _add(f"div.{kind}{width}", both, lambda v, x, y, s=signed: v.divide(x, y, s)[0])
        _add(f"rem.{kind}{width}", both, lambda v, x, y, s=signed: v.divide(x, y, s)[1])
        _add(f"shr.{kind}{width}", f"{letter}={letter}w", lambda v, x, y, s=signed: v.shift_right(x, y, s))
        _add(f"bfe.{kind}{width}", f"{letter}={letter}ww", lambda v, x, y, z, s=signed: v.extract(x, y, z, s))
    _add(f"shl.b{width}", f"{letter}={letter}w", lambda v, x, y: v.shift_left(x, y))
    _add(f"not.b{width}", f"{letter}={letter}", lambda v, x: v.ir.not_(x))
    _add(f"neg.s{width}", f"{letter}={letter}", lambda v, x: v.ir.neg(x))
    _add(f"abs.s{width}", f"{letter}={letter}", lambda v, x: v.absolute(x))
    _add(f"bfi.b{width}", f"{letter}={letter}{letter}ww", lambda v, x, y, p, n: v.insert(x, y, p, n))
    _add(f"brev.b{width}", f"{letter}={letter}", lambda v, x: v.call("bitreverse", x))
    _add(f"select.b{width}", f"{letter}={letter}{letter}w", lambda v, x, y, p: v.ir.select(v.holds(p), x, y))
    _add(f"mov.b{width}", f"{letter}={letter}", lambda v, x: x)


def _words() -> None:
    """Operations of 32-bit words alone."""
    _add("popc.b32", "w=w", lambda v, x: v.call("ctpop", x))
    _add("clz.b32", "w=w", lambda v, x: v.leading_zeros(x))
    _add("prmt.b32", "w=www", lambda v, x, y, s: v.permute(x, y, s))
    _add("lop3.b32", "w=wwww", lambda v, x, y, z, table: v.lookup(x, y, z, table))
    for side in "lr":
        for mode in ("wrap", "clamp"):
            _add(f"shf.{side}.{mode}.b32", "w=www", lambda v, x, y, n, s=side, m=mode: v.funnel(x, y, n, s, m))


def _dot_products() -> None:
    """Products of bytes (or of halves and bytes) added up; compilers use them for small index arithmetic."""
    for x_signed, y_signed in itertools.product((False, True), repeat=2):
        kinds = f"{'s' if x_signed else 'u'}32.{'s' if y_signed else 'u'}32"
        signs = {"x_signed": x_signed, "y_signed": y_signed}
        _add(f"dp4a.{kinds}", "w=www", functools.partial(_dot, x_bits=8, start=0, **signs))
        for half, start in (("lo", 0), ("hi", 16)):
            _add(f"dp2a.{half}.{kinds}", "w=www", functools.partial(_dot, x_bits=16, start=start, **signs))


def _dot(v: Any, x: Any, y: Any, total: Any, x_bits: int, start: int, x_signed: bool, y_signed: bool) -> Any:
    for term in range(32 // x_bits):
        part = v.shift_right(x, v.whole(term * x_bits), False)
        byte = v.shift_right(y, v.whole(start + term * 8), False)
        product = v.ir.mul(v.resize(v.resize(part, x_bits), 32, x_signed), v.resize(v.resize(byte, 8), 32, y_signed))
        total = v.ir.add(total, product)
    return total


def _conversions() -> None:
    for bits in (8, 16):
        _add(f"zext.{bits}", "w=w", lambda v, x, b=bits: v.resize(v.resize(x, b), 32))
        _add(f"sext.{bits}", "w=w", lambda v, x, b=bits: v.resize(v.resize(x, b), 32, signed=True))
    _add("widen.u32", "d=w", lambda v, x: v.resize(x, 64))
    _add("widen.s32", "d=w", lambda v, x: v.resize(x, 64, signed=True))
    _add("low.b64", "w=d", lambda v, x: v.resize(x, 32))
    _add("high.b64", "w=d", lambda v, x: v.resize(v.shift_right(x, v.whole(32), False), 32))
    _add("pack.b64", "d=ww", lambda v, x, y: v.concatenate(x, y))
    _add("mulwide.u32", "d=ww", lambda v, x, y: v.wide_product(x, y, False))
    _add("mulwide.s32", "d=ww", lambda v, x, y: v.wide_product(x, y, True))
    for bits, letter in ((32, "w"), (64, "d")):
        for kind in "su":
            signed = kind == "s"
            _add(f"round.{kind}{bits}", f"{letter}=f", lambda v, x, b=bits, s=signed: v.to_integer(x, b, s))
            _add(f"float.{kind}{bits}", f"f={letter}", lambda v, x, s=signed: v.to_real(x, s))


_floats()
_comparisons()
_integers(32, "w")
_integers(64, "d")
_words()
_dot_products()
_conversions()

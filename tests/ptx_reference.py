"""What PTX instructions compute, said a second time in plain Python integers and NumPy floats.

Every function takes the bits of the operands and gives the bits of the result. Source: NVIDIA, "PTX ISA" 8.8.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

Bits = Sequence[int]
COMPARE = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
LOGIC = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}
ROUND = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


def bits_of(kind: str) -> int:
    return 1 if kind == "pred" else int(kind[1:])


def signed(value: int, kind: str) -> int:
    """Bits as the number that a type makes of them."""
    bits = bits_of(kind)
    value &= (1 << bits) - 1
    return value - (1 << bits) if kind[0] == "s" and value >> (bits - 1) else value


def real(bits: int) -> float:
    return float(np.uint32(bits & 0xFFFFFFFF).view(np.float32))


def float_bits(value: float) -> int:
    with np.errstate(over="ignore"):
        return int(np.float32(value).view(np.uint32))


def saturated(value: float) -> float:
    return 0.0 if math.isnan(value) else min(max(value, 0.0), 1.0)


def evaluate(opcode: str, operands: Bits) -> int:
    """Bits of the result; of a float only as exact as float64 arithmetic rounded once."""
    name, *words = opcode.split(".")
    kind = words[-1]
    words = [word for word in words if word not in ("rn", "ftz", "approx", "full")]
    if name == "cvt":
        return _convert(words, operands[0])
    if name in ("setp", "selp"):
        return (_set if name == "setp" else _select)(words, operands)
    if name in ("mov", "cvta"):
        return operands[0]
    if name in ("dp2a", "dp4a"):
        return _dot(words, operands) & 0xFFFFFFFF
    if kind == "f32":
        value = _floats(name, [real(x) for x in operands])
        return float_bits(saturated(value) if "sat" in words else value)
    return _integers(name, words, operands) & ((1 << 64) - 1)


def _floats(name: str, x: list[float]) -> float:
    table: dict[str, Callable[..., float]] = {
        "add": operator.add,
        "sub": operator.sub,
        "mul": operator.mul,
        "fma": lambda a, b, c: float(np.float64(a) * np.float64(b) + np.float64(c)),
        "div": lambda a, b: float(np.float64(a) / np.float64(b)),
        "neg": operator.neg,
        "abs": abs,
        "min": lambda a, b: float(np.fmin(a, b)),
        "max": lambda a, b: float(np.fmax(a, b)),
        "rcp": lambda a: float(1 / np.float64(a)),
        "sqrt": lambda a: float(np.sqrt(a)),
        "rsqrt": lambda a: float(1 / np.sqrt(a)),
        "ex2": lambda a: float(np.exp2(a)),
        "lg2": lambda a: float(np.log2(a)),
        "sin": lambda a: float(np.sin(a)),
        "cos": lambda a: float(np.cos(a)),
        "tanh": lambda a: float(np.tanh(a)),
    }
    with np.errstate(all="ignore"):
        return table[name](*x)


def _dot(words: list[str], operands: Bits) -> int:
    """The sum of products of halves (dp2a) or bytes (dp4a) of a with bytes of b, and c."""
    a, b, c = operands
    x_kind, y_kind = (f"{word[0]}{bits}" for word, bits in zip(words[-2:], (16 if len(words) == 3 else 8, 8)))
    bits, start = bits_of(x_kind), 16 if words[0] == "hi" else 0
    return c + sum(
        signed(a >> term * bits, x_kind) * signed(b >> start + term * 8, y_kind) for term in range(32 // bits)
    )


def _set(words: list[str], operands: Bits) -> int:
    kind = words[-1]
    result = _holds(words[0], kind, operands[0], operands[1])
    return int(LOGIC[words[1]](result, bool(operands[2])) if len(words) == 3 else result)


def _holds(name: str, kind: str, a: int, b: int) -> bool:
    if kind != "f32":
        return COMPARE[name](signed(a, kind), signed(b, kind))
    x, y = real(a), real(b)
    unordered = math.isnan(x) or math.isnan(y)
    if name in ("num", "nan"):
        return unordered == (name == "nan")
    return name.endswith("u") and len(name) == 3 if unordered else COMPARE[name[:2]](x, y)


def _select(words: list[str], operands: Bits) -> int:
    return operands[0] if operands[2] else operands[1]


def _convert(words: list[str], value: int) -> int:
    target, source = words[-2:]
    rounding = ROUND.get(words[0])
    if source != "f32":
        number = signed(value, source)
        return float_bits(number) if target == "f32" else signed(number, target) & ((1 << 64) - 1)
    x = real(value)
    if target == "f32":
        if "sat" in words:
            return float_bits(saturated(x))
        return value if not math.isfinite(x) else float_bits(math.copysign(abs(rounding(x)), x))
    low, high = (-1 << bits_of(target) - 1, (1 << bits_of(target) - 1) - 1)
    low, high = (low, high) if target[0] == "s" else (0, (1 << bits_of(target)) - 1)
    if math.isnan(x):
        return 0
    return (low if x < low else high if x > high else min(max(rounding(x), low), high)) & ((1 << 64) - 1)


def _integers(name: str, words: list[str], operands: Bits) -> int:
    kind = words[-1]
    bits = bits_of(kind)
    x = [signed(value, kind) for value in operands]
    if name in ("mul", "mad"):
        product = x[0] * x[1]
        product = product >> bits if "hi" in words else product
        return product + (operands[2] if name == "mad" else 0)
    if name in ("div", "rem"):
        quotient = abs(x[0]) // abs(x[1]) * (-1 if (x[0] < 0) != (x[1] < 0) else 1)
        return quotient if name == "div" else x[0] - quotient * x[1]
    if name in ("shl", "shr"):
        amount = min(operands[1] & 0xFFFFFFFF, bits)
        return x[0] << amount if name == "shl" else x[0] >> amount
    if name in ("bfe", "bfi"):
        return (_extract if name == "bfe" else _insert)(kind, operands)
    table: dict[str, Callable[..., int]] = {
        **LOGIC,
        "add": operator.add,
        "sub": operator.sub,
        "min": min,
        "max": max,
        "neg": operator.neg,
        "abs": abs,
        "not": operator.invert,
        "popc": lambda a: bin(a).count("1"),
        "clz": lambda a: bits - a.bit_length(),
        "brev": lambda a: int(format(a, f"0{bits}b")[::-1], 2),
        "prmt": _permute,
        "lop3": _lookup,
        "shf": lambda a, b, c: _funnel(words, a, b, c),
    }
    return table[name](*x)


def _extract(kind: str, operands: Bits) -> int:
    a, position, length = operands[0], operands[1] & 255, operands[2] & 255
    top = bits_of(kind) - 1
    sign = 0 if kind[0] == "u" or length == 0 else a >> min(position + length - 1, top) & 1
    picked = [a >> (position + i) & 1 if i < length and position + i <= top else sign for i in range(top + 1)]
    return sum(bit << i for i, bit in enumerate(picked))


def _insert(kind: str, operands: Bits) -> int:
    a, result, position, length = operands[0], operands[1], operands[2] & 255, operands[3] & 255
    for i in range(length):
        if position + i < bits_of(kind):
            result = result & ~(1 << (position + i)) | (a >> i & 1) << (position + i)
    return result


def _permute(a: int, b: int, selector: int) -> int:
    data = (b << 32 | a).to_bytes(8, "little")
    result = 0
    for i in range(4):
        nibble = selector >> (4 * i) & 15
        byte = data[nibble & 7]
        result |= ((0xFF if byte & 0x80 else 0) if nibble & 8 else byte) << (8 * i)
    return result


def _lookup(a: int, b: int, c: int, table: int) -> int:
    columns = ((a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1 for i in range(32))
    return sum((table >> column & 1) << i for i, column in enumerate(columns))


def _funnel(words: list[str], low: int, high: int, amount: int) -> int:
    amount = amount & 31 if "wrap" in words else min(amount, 32)
    both = high << 32 | low
    return both << amount >> 32 if words[0] == "l" else both >> amount

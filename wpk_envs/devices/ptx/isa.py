"""The PTX instructions that are known, and the micro-operations each is made of.

One line per family of opcodes. In a pattern ``(a|b)`` stands for either word, and ``{0}`` in the steps for
the word that the first such group has. The operands are one letter each, the result first: ``p`` predicate,
``h`` 16-bit, ``w`` 32-bit, ``d`` 64-bit. A step is the name of a micro-operation (`operations.OPERATIONS`),
its result and its operands: ``d`` is the instruction's result, ``a b c e`` are its operands, ``t u`` 32-bit
and ``T U`` 64-bit temporaries, ``#16`` a constant. 16-bit registers are 32-bit rows whose upper half is zero.

What is not in this table is unknown and refused, every modifier included.

Source: NVIDIA, "PTX ISA" 8.8, chapter 9.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product


class Class(enum.IntEnum):
    """What kind of work an instruction is, for whoever counts them; a micro-operation that continues one is NONE.

    FLOAT is float32 arithmetic other than FMA; LOAD_READ_ONLY is ``ld.global.nc``.
    """

    NONE = 0
    FLOAT = 1
    FMA = 2
    INTEGER = 3
    MULTIPLY = 4
    LONG = 5
    LONG_MULTIPLY = 6
    SPECIAL = 7
    COMPARE = 8
    CONVERT = 9
    MOVE = 10
    LOAD_PARAMETER = 11
    LOAD_GLOBAL = 12
    LOAD_READ_ONLY = 13
    STORE_GLOBAL = 14
    LOAD_SHARED = 15
    STORE_SHARED = 16
    LOAD_LOCAL = 17
    STORE_LOCAL = 18
    LOAD_GENERIC = 19
    STORE_GENERIC = 20
    BRANCH = 21
    BARRIER = 22
    EXIT = 23


@dataclass(frozen=True)
class Form:
    """One way to use an opcode.

    Attributes:
        kind: Its class.
        operands: Letters of the result and the operands.
        steps: Micro-operation, result and operands of every step.
    """

    kind: Class
    operands: str
    steps: tuple[tuple[str, ...], ...]


_COMPARE = "eq|ne|lt|le|gt|ge"
_FTZ = "(|.ftz)"

_TABLE: list[tuple[Class, str, str, str]] = [
    # float32
    (Class.FLOAT, f"(add|sub|mul)(|.rn){_FTZ}.f32", "www", "{0}.f32 d a b"),
    (Class.FLOAT, f"(add|sub|mul)(|.rn){_FTZ}.sat.f32", "www", "{0}.f32 t a b; sat.f32 d t"),
    (Class.FMA, f"fma.rn{_FTZ}.f32", "wwww", "fma.f32 d a b c"),
    (Class.FMA, f"fma.rn{_FTZ}.sat.f32", "wwww", "fma.f32 t a b c; sat.f32 d t"),
    (Class.FLOAT, f"(neg|abs){_FTZ}.f32", "ww", "{0}.f32 d a"),
    (Class.COMPARE, f"(min|max){_FTZ}.f32", "www", "{0}.f32 d a b"),
    (Class.SPECIAL, f"div.(approx|full|rn){_FTZ}.f32", "www", "div.f32 d a b"),
    (Class.SPECIAL, f"(rcp|sqrt).(approx|rn){_FTZ}.f32", "ww", "{0}.f32 d a"),
    (Class.SPECIAL, f"(rsqrt|ex2|lg2|sin|cos).approx{_FTZ}.f32", "ww", "{0}.f32 d a"),
    (Class.SPECIAL, "tanh.approx.f32", "ww", "tanh.f32 d a"),
    (Class.COMPARE, f"setp.(eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan){_FTZ}.f32", "pww", "{0}.f32 d a b"),
    (
        Class.COMPARE,
        f"setp.(eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan).(and|or|xor){_FTZ}.f32",
        "pwwp",
        "{0}.f32 t a b; {1}.b32 d t c",
    ),
    # 32-bit integers
    (Class.INTEGER, "(add|sub).(s32|u32)", "www", "{0}.b32 d a b"),
    (Class.MULTIPLY, "mul.lo.(s32|u32)", "www", "mul.b32 d a b"),
    (Class.MULTIPLY, "mul.hi.(s32|u32)", "www", "mulhi.{0} d a b"),
    (Class.MULTIPLY, "mul.wide.(s32|u32)", "dww", "mulwide.{0} d a b"),
    (Class.MULTIPLY, "mad.lo.(s32|u32)", "wwww", "mul.b32 t a b; add.b32 d t c"),
    (Class.MULTIPLY, "mad.hi.(s32|u32)", "wwww", "mulhi.{0} t a b; add.b32 d t c"),
    (Class.MULTIPLY, "mad.wide.(s32|u32)", "dwwd", "mulwide.{0} T a b; add.b64 d T c"),
    (Class.SPECIAL, "(div|rem).(s32|u32)", "www", "{0}.{1} d a b"),
    (Class.COMPARE, "(min|max).(s32|u32)", "www", "{0}.{1} d a b"),
    (Class.INTEGER, "(neg|abs).s32", "ww", "{0}.s32 d a"),
    (Class.INTEGER, "(and|or|xor).b32", "www", "{0}.b32 d a b"),
    (Class.INTEGER, "not.b32", "ww", "not.b32 d a"),
    (Class.INTEGER, "shl.b32", "www", "shl.b32 d a b"),
    (Class.INTEGER, "shr.(s32|u32)", "www", "shr.{0} d a b"),
    (Class.INTEGER, "shr.b32", "www", "shr.u32 d a b"),
    (Class.INTEGER, "bfe.(s32|u32)", "wwww", "bfe.{0} d a b c"),
    (Class.INTEGER, "bfi.b32", "wwwww", "bfi.b32 d a b c e"),
    (Class.INTEGER, "prmt.b32", "wwww", "prmt.b32 d a b c"),
    (Class.INTEGER, "lop3.b32", "wwwww", "lop3.b32 d a b c e"),
    (Class.INTEGER, "shf.(l|r).(wrap|clamp).b32", "wwww", "shf.{0}.{1}.b32 d a b c"),
    (Class.INTEGER, "(popc|clz|brev).b32", "ww", "{0}.b32 d a"),
    (Class.MULTIPLY, "dp4a.(s32|u32).(s32|u32)", "wwww", "dp4a.{0}.{1} d a b c"),
    (Class.MULTIPLY, "dp2a.(lo|hi).(s32|u32).(s32|u32)", "wwww", "dp2a.{0}.{1}.{2} d a b c"),
    (Class.COMPARE, f"setp.({_COMPARE}).(s32|u32)", "pww", "{0}.{1} d a b"),
    (Class.COMPARE, "setp.(eq|ne).b32", "pww", "{0}.u32 d a b"),
    (Class.COMPARE, f"setp.({_COMPARE}).(and|or|xor).(s32|u32)", "pwwp", "{0}.{2} t a b; {1}.b32 d t c"),
    (Class.COMPARE, "selp.(b32|s32|u32|f32)", "wwwp", "select.b32 d a b c"),
    (Class.MOVE, "mov.(b32|s32|u32|f32)", "ww", "mov.b32 d a"),
    # 64-bit integers
    (Class.LONG, "(add|sub).(s64|u64)", "ddd", "{0}.b64 d a b"),
    (Class.LONG_MULTIPLY, "mul.lo.(s64|u64)", "ddd", "mul.b64 d a b"),
    (Class.LONG_MULTIPLY, "mul.hi.(s64|u64)", "ddd", "mulhi.{0} d a b"),
    (Class.LONG_MULTIPLY, "mad.lo.(s64|u64)", "dddd", "mul.b64 T a b; add.b64 d T c"),
    (Class.SPECIAL, "(div|rem).(s64|u64)", "ddd", "{0}.{1} d a b"),
    (Class.COMPARE, "(min|max).(s64|u64)", "ddd", "{0}.{1} d a b"),
    (Class.LONG, "(neg|abs).s64", "dd", "{0}.s64 d a"),
    (Class.LONG, "(and|or|xor).b64", "ddd", "{0}.b64 d a b"),
    (Class.LONG, "not.b64", "dd", "not.b64 d a"),
    (Class.LONG, "shl.b64", "ddw", "shl.b64 d a b"),
    (Class.LONG, "shr.(s64|u64)", "ddw", "shr.{0} d a b"),
    (Class.LONG, "shr.b64", "ddw", "shr.u64 d a b"),
    (Class.LONG, "bfe.(s64|u64)", "ddww", "bfe.{0} d a b c"),
    (Class.LONG, "bfi.b64", "dddww", "bfi.b64 d a b c e"),
    (Class.LONG, "brev.b64", "dd", "brev.b64 d a"),
    (Class.COMPARE, f"setp.({_COMPARE}).(s64|u64)", "pdd", "{0}.{1} d a b"),
    (Class.COMPARE, "setp.(eq|ne).b64", "pdd", "{0}.u64 d a b"),
    (Class.COMPARE, f"setp.({_COMPARE}).(and|or|xor).(s64|u64)", "pddp", "{0}.{2} t a b; {1}.b32 d t c"),
    (Class.COMPARE, "selp.(b64|s64|u64)", "dddp", "select.b64 d a b c"),
    (Class.MOVE, "mov.(b64|s64|u64)", "dd", "mov.b64 d a"),
    (Class.MOVE, "cvta(|.to).(global|shared|local).u64", "dd", "mov.b64 d a"),
    # 16-bit integers
    (Class.INTEGER, "(add|sub).(s16|u16)", "hhh", "{0}.b32 t a b; zext.16 d t"),
    (Class.MULTIPLY, "mul.lo.(s16|u16)", "hhh", "mul.b32 t a b; zext.16 d t"),
    (Class.MULTIPLY, "mul.hi.u16", "hhh", "mul.b32 t a b; shr.u32 d t #16"),
    (Class.MULTIPLY, "mul.hi.s16", "hhh", "sext.16 t a; sext.16 u b; mul.b32 t t u; shr.u32 d t #16"),
    (Class.MULTIPLY, "mul.wide.u16", "whh", "mul.b32 d a b"),
    (Class.MULTIPLY, "mul.wide.s16", "whh", "sext.16 t a; sext.16 u b; mul.b32 d t u"),
    (Class.MULTIPLY, "mad.lo.(s16|u16)", "hhhh", "mul.b32 t a b; add.b32 t t c; zext.16 d t"),
    (Class.MULTIPLY, "mad.wide.u16", "whhw", "mul.b32 t a b; add.b32 d t c"),
    (Class.MULTIPLY, "mad.wide.s16", "whhw", "sext.16 t a; sext.16 u b; mul.b32 t t u; add.b32 d t c"),
    (Class.SPECIAL, "(div|rem).u16", "hhh", "{0}.u32 d a b"),
    (Class.SPECIAL, "(div|rem).s16", "hhh", "sext.16 t a; sext.16 u b; {0}.s32 t t u; zext.16 d t"),
    (Class.COMPARE, "(min|max).u16", "hhh", "{0}.u32 d a b"),
    (Class.COMPARE, "(min|max).s16", "hhh", "sext.16 t a; sext.16 u b; {0}.s32 t t u; zext.16 d t"),
    (Class.INTEGER, "(neg|abs).s16", "hh", "sext.16 t a; {0}.s32 t t; zext.16 d t"),
    (Class.INTEGER, "(and|or|xor).b16", "hhh", "{0}.b32 d a b"),
    (Class.INTEGER, "not.b16", "hh", "not.b32 t a; zext.16 d t"),
    (Class.INTEGER, "shl.b16", "hhw", "shl.b32 t a b; zext.16 d t"),
    (Class.INTEGER, "shr.(u16|b16)", "hhw", "shr.u32 d a b"),
    (Class.INTEGER, "shr.s16", "hhw", "sext.16 t a; shr.s32 t t b; zext.16 d t"),
    (Class.COMPARE, f"setp.({_COMPARE}).u16", "phh", "{0}.u32 d a b"),
    (Class.COMPARE, "setp.(eq|ne).b16", "phh", "{0}.u32 d a b"),
    (Class.COMPARE, f"setp.({_COMPARE}).s16", "phh", "sext.16 t a; sext.16 u b; {0}.s32 d t u"),
    (Class.COMPARE, "selp.(b16|s16|u16)", "hhhp", "select.b32 d a b c"),
    (Class.MOVE, "mov.(b16|s16|u16)", "hh", "mov.b32 d a"),
    # predicates
    (Class.COMPARE, "(and|or|xor).pred", "ppp", "{0}.b32 d a b"),
    (Class.COMPARE, "not.pred", "pp", "not.b32 d a"),
    (Class.MOVE, "mov.pred", "pp", "mov.b32 d a"),
    # conversions with float32
    (Class.CONVERT, f"cvt.(rni|rzi|rmi|rpi){_FTZ}.(s32|u32).f32", "ww", "{0}.f32 t a; round.{2} d t"),
    (Class.CONVERT, f"cvt.(rni|rzi|rmi|rpi){_FTZ}.(s64|u64).f32", "dw", "{0}.f32 t a; round.{2} d t"),
    (Class.CONVERT, f"cvt.(rni|rzi|rmi|rpi){_FTZ}.f32.f32", "ww", "{0}.f32 d a"),
    (Class.CONVERT, f"cvt{_FTZ}.sat.f32.f32", "ww", "sat.f32 d a"),
    (Class.CONVERT, "cvt.rn.f32.(s32|u32)", "ww", "float.{0} d a"),
    (Class.CONVERT, "cvt.rn.f32.(s64|u64)", "wd", "float.{0} d a"),
    (Class.CONVERT, "cvt.rn.f32.u16", "wh", "float.u32 d a"),
    (Class.CONVERT, "cvt.rn.f32.s16", "wh", "sext.16 t a; float.s32 d t"),
    (Class.CONVERT, "cvt.rn.f32.(u8|s8)", "wh", "{narrow} t a; float.s32 d t"),
]


def _integer_conversions() -> list[tuple[Class, str, str, str]]:
    """``cvt`` between all integer types; either register may be wider than its type."""
    table = []
    for target, source in product(("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"), repeat=2):
        for into, given in product(_holders(target), _holders(source)):
            table.append((Class.CONVERT, f"cvt.{target}.{source}", into + given, _convert(target, source, into, given)))
    return table


def _holders(kind: str) -> str:
    """Letters of the registers that may hold a type."""
    return {"8": "hwd", "16": "hwd", "32": "wd", "64": "d"}[kind[1:]]


def _convert(target: str, source: str, into: str, given: str) -> str:
    """Narrow the source to its type, then to the result's, then extend it to the result's register."""
    if target.endswith("64") and source.endswith("64"):
        return "mov.b64 d a"
    steps, at = (["low.b64 t a"], "t") if given == "d" else ([], "a")
    for kind in (source, target):
        if kind[1:] in ("8", "16"):
            steps, at = [*steps, f"{_extension(kind)} t {at}"], "t"
    sign = (source if target.endswith("64") else target)[0]
    last = {"h": "zext.16 d", "w": "mov.b32 d", "d": f"widen.{sign}32 d"}[into]
    return "; ".join([*steps, f"{last} {at}"])


def _extension(kind: str) -> str:
    return f"{'sext' if kind[0] == 's' else 'zext'}.{kind[1:]}"


def _expanded(pattern: str) -> list[tuple[str, tuple[str, ...]]]:
    """Every opcode of a pattern, with the word that each group has in it."""
    parts = re.split(r"\(([^)]*)\)", pattern)
    choices = [part.split("|") for part in parts[1::2]]
    opcodes = []
    for words in product(*choices):
        text = "".join(a + b for a, b in zip(parts[::2], [*words, ""]))
        opcodes.append((text, words))
    return opcodes


@lru_cache(maxsize=1)
def known() -> Mapping[str, list[Form]]:
    """Every way to use every opcode that is a plain computation."""
    table: dict[str, list[Form]] = {}
    for kind, pattern, operands, template in [*_TABLE, *_integer_conversions()]:
        for opcode, words in _expanded(pattern):
            narrow = _extension(words[0]) if words and words[0] in ("u8", "s8") else ""
            text = template.format(*words, narrow=narrow)
            steps = tuple(tuple(step.split()) for step in text.split(";"))
            table.setdefault(opcode, []).append(Form(kind, operands, steps))
    return table


@dataclass(frozen=True)
class Access:
    """A load or store.

    Attributes:
        store: It writes memory.
        space: ``"global"``, ``"shared"``, ``"local"``, ``"param"`` or ``""`` for a generic address.
        read_only: The memory is not written while the kernel runs (``.nc``).
        count: Cells per thread.
        cell: Type of one cell.
    """

    store: bool
    space: str
    read_only: bool
    count: int
    cell: str


_ACCESS = re.compile(
    r"(?:(?P<load>ld)(?P<space>\.global|\.shared|\.local|\.param)?(?P<constant>\.nc)?(?:\.(?:ca|cg|cs|lu|cv))?"
    r"|st(?P<into>\.global|\.shared|\.local)?(?:\.(?:wb|cg|cs|wt))?)"
    r"(?:\.v(?P<count>2|4))?\.(?P<cell>[bus](?:8|16|32|64)|f32)\Z"
)


@lru_cache(maxsize=1024)
def access(opcode: str) -> Access | None:
    """Read the opcode of a load or store; none if it is another or has an unknown modifier."""
    found = _ACCESS.match(opcode)
    if found is None or (found["constant"] and found["space"] != ".global"):
        return None
    space = (found["space"] if found["load"] else found["into"]) or ""
    return Access(not found["load"], space[1:], bool(found["constant"]), int(found["count"] or 1), found["cell"])


BRANCHES = ("bra", "bra.uni")
BARRIERS = ("bar.sync", "barrier.sync", "barrier.sync.aligned")
EXITS = ("ret", "exit", "ret.uni")

"""A parsed function to the dense integers that the machine runs.

Every operand becomes a *row*: one element per thread. There are two files of rows, one of 32-bit words
(float32, b32, b16 and predicates) and one of 64-bit words. Constants, special registers, parameters and
addresses of variables are rows that are filled before the kernel starts, so that the machine knows rows only.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from wpk_envs.devices.ptx import isa
from wpk_envs.devices.ptx.isa import Access, Class, Form
from wpk_envs.devices.ptx.lanes import CELLS
from wpk_envs.devices.ptx.operations import OPERATIONS
from wpk_envs.devices.ptx.parse import (
    Address,
    Constant,
    Function,
    Group,
    Instruction,
    Operand,
    Register,
    Symbol,
    Variable,
)
from wpk_envs.devices.ptx.problems import PtxError


class Kind(enum.IntEnum):
    """What the machine does with a micro-operation."""

    COMPUTE = 0
    DIVIDE = 1
    LOAD = 2
    STORE = 3
    BRANCH = 4
    BARRIER = 5
    EXIT = 6


class Column(enum.IntEnum):
    """Columns of the code.

    D to E are rows: the result and the operands; of a load or store A is the address and D, B, C, E are the
    values. NUMBER is the place in `OPERATIONS` or in `CELLS`. OFFSET is added to an address. GUARD is a row or
    -1; WANTED is what it must be. WIDE is 1 where the result has 64 bits. COUNT is a number of cells.
    CLASS is an `isa.Class`; INSTRUCTION the place in the function.
    """

    KIND = 0
    NUMBER = 1
    D = 2
    A = 3
    B = 4
    C = 5
    E = 6
    OFFSET = 7
    GUARD = 8
    WANTED = 9
    WIDE = 10
    COUNT = 11
    SPACE = 12
    TARGET = 13
    CLASS = 14
    INSTRUCTION = 15


SPACES = ("", "global", "shared", "local")
"""State spaces by number; the first is a generic address."""

SPECIALS = tuple(f"%{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz")
"""Special registers that have a row, if the function reads them."""

WIDE_ROW = 1 << 24
"""Added to the number of a row of the 64-bit file."""

_NUMBERS = {name: number for number, name in enumerate(OPERATIONS)}
_LETTERS = {"pred": "p", "b16": "h", "u16": "h", "s16": "h", "b32": "w", "u32": "w", "s32": "w", "f32": "w"}
_LETTERS.update({"b64": "d", "u64": "d", "s64": "d"})
_CELLS = {"u8": "u8", "b8": "u8", "s8": "s8", "u16": "u16", "b16": "u16", "s16": "s16"}
_LOADS = {"global": Class.LOAD_GLOBAL, "shared": Class.LOAD_SHARED, "local": Class.LOAD_LOCAL, "": Class.LOAD_GENERIC}
_STORES = {
    "global": Class.STORE_GLOBAL,
    "shared": Class.STORE_SHARED,
    "local": Class.STORE_LOCAL,
    "": Class.STORE_GENERIC,
}


@dataclass
class Code:
    """A function as the machine wants it.

    Attributes:
        function: What was decoded.
        code: One row per micro-operation, one column per `Column`; int64.
        words: Number of 32-bit rows.
        longs: Number of 64-bit rows.
        constants: Bits by row, for both files.
        specials: Row by special register.
        parameters: Row by parameter.
        addresses: Row by variable.
        variables: The arrays that the function refers to.
    """

    function: Function
    code: np.ndarray = field(default_factory=lambda: np.zeros((0, len(Column)), np.int64))
    words: int = 0
    longs: int = 0
    constants: dict[int, int] = field(default_factory=dict)
    specials: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)


def decode(function: Function) -> Code:
    """Decode a function.

    Raises:
        PtxError: For an instruction, modifier or operand form that is not known, with its line.
    """
    return _Decoder(function).run()


class _Decoder:
    """Collects rows and micro-operations of one function."""

    def __init__(self, function: Function) -> None:
        self.function, self.result = function, Code(function)
        self.rows: dict[tuple[str, object], int] = {}
        self.code: list[tuple[int, ...]] = []
        self.starts: list[int] = []
        self.branches: list[tuple[int, str]] = []
        self.instruction = Instruction(0, "", "", ())
        self.number = 0
        self.guard, self.wanted = -1, -1
        self.swallow = {"w": self.row("w", "swallow"), "d": self.row("d", "swallow")}

    def run(self) -> Code:
        for number, instruction in enumerate(self.function.instructions):
            self.starts.append(len(self.code))
            self.number, self.instruction = number, instruction
            self.guard, self.wanted = self._guard(instruction)
            self._decode(instruction)
        self.starts.append(len(self.code))
        self.guard = -1
        self.emit(Kind.EXIT, Class.NONE)
        code = np.array(self.code, np.int64)
        for place, label in self.branches:
            code[place, Column.TARGET] = self.starts[self.function.labels[label]]
        self.result.code = code
        return self.result

    def unknown(self, why: str) -> PtxError:
        """The error for the instruction at hand."""
        text = " ".join(self.instruction.text.split())
        place = f"line {self.instruction.line} of kernel {self.function.name}"
        return PtxError(f"{place} cannot be interpreted: {why} in '{text}'")

    # rows

    def row(self, letter: str, key: object) -> int:
        """The row that a key has in the file of a letter, a new one at first."""
        wide = letter == "d"
        known = self.rows.get(("d" if wide else "w", key))
        if known is None:
            known = self.result.longs + WIDE_ROW if wide else self.result.words
            self.result.longs += wide
            self.result.words += not wide
            self.rows[("d" if wide else "w", key)] = known
        return known

    def constant(self, letter: str, value: int) -> int:
        bits = value & {"d": (1 << 64) - 1, "h": 0xFFFF}.get(letter, 0xFFFFFFFF)
        bits = (0xFFFFFFFF if bits else 0) if letter == "p" else bits
        row = self.row(letter, bits)
        self.result.constants[row] = bits
        return row

    def letter(self, operand: Operand) -> str:
        """Letter of an operand that is a register or an address; empty for an immediate."""
        if isinstance(operand, Constant):
            return ""
        if isinstance(operand, Symbol):
            if operand.name in self.function.variables:
                return "d"
            raise self.unknown(f"'{operand.name}' is no variable")
        if not isinstance(operand, Register):
            raise self.unknown("an operand of this form is not known")
        if operand.name in SPECIALS:
            return "w"
        kind = self.function.registers.get(operand.name)
        if kind not in _LETTERS:
            what = f"the type .{kind} of '{operand.name}'" if kind else f"the register '{operand.name}'"
            raise self.unknown(f"{what} is not known")
        return _LETTERS[kind]

    def source(self, operand: Operand, letter: str) -> int:
        """Row of an operand that is read."""
        if isinstance(operand, Constant):
            if operand.real and letter != "w":
                raise self.unknown("a float constant is no operand")
            return self.constant(letter, operand.value)
        if self.letter(operand) != letter:
            raise self.unknown(f"the width of operand '{operand.name}' does not fit")  # type: ignore[union-attr]
        if isinstance(operand, Symbol):
            return self.variable(operand.name)
        assert isinstance(operand, Register)
        row = self.row(letter, operand.name)
        if operand.name in SPECIALS:
            self.result.specials[operand.name] = row
        return row

    def target(self, operand: Operand, letter: str) -> int:
        """Row of an operand that is written."""
        if isinstance(operand, Register) and operand.name == "_":
            return self.swallow["d" if letter == "d" else "w"]
        if not isinstance(operand, Register) or operand.name in SPECIALS or self.letter(operand) != letter:
            raise self.unknown("a result of this form is not known")
        return self.row(letter, operand.name)

    def variable(self, name: str) -> int:
        """Row of a variable's address."""
        if name not in self.result.addresses:
            self.result.addresses[name] = self.row("d", ("address", name))
            self.result.variables.append(self.function.variables[name])
        return self.result.addresses[name]

    def parameter(self, name: str, letter: str) -> int:
        """Row of a parameter."""
        self.result.parameters[name] = self.row(letter, ("parameter", name))
        return self.result.parameters[name]

    # instructions

    def _guard(self, instruction: Instruction) -> tuple[int, int]:
        if instruction.guard is None:
            return -1, -1
        self.guard = -1
        return self.source(Register(instruction.guard), "p"), 0 if instruction.negated else -1

    def emit(self, kind: Kind, cls: Class, number: int = 0, rows: Sequence[int] = (), **more: int) -> None:
        """Append a micro-operation."""
        d, a, b, c, e = [*rows, -1, -1, -1, -1, -1][:5]
        get = more.get
        sizes = (get("wide", 0), get("count", 0), get("space", 0))
        self.code.append(
            (kind, number, d, a, b, c, e, get("offset", 0), self.guard, self.wanted, *sizes, 0, cls, self.number)
        )

    def step(self, cls: Class, name: str, rows: Sequence[int]) -> None:
        """Append a computation."""
        kind = Kind.DIVIDE if name.startswith(("div.s", "div.u", "rem.")) else Kind.COMPUTE
        self.emit(kind, cls, _NUMBERS[name], rows, wide=int(OPERATIONS[name].result == "d"))

    def _decode(self, instruction: Instruction) -> None:
        opcode = instruction.opcode
        access = isa.access(opcode)
        if access is not None:
            self._access(access)
        elif opcode in isa.BRANCHES:
            self._branch()
        elif opcode in isa.BARRIERS:
            self._barrier()
        elif opcode in isa.EXITS:
            self._exit()
        elif opcode in _MOVES and any(isinstance(operand, Group) for operand in instruction.operands):
            self._move_parts(_MOVES[opcode])
        else:
            self._compute(isa.known().get(opcode, []))

    def _compute(self, forms: Sequence[Form]) -> None:
        if not forms:
            raise self.unknown(f"the instruction '{self.instruction.opcode}' is not known")
        form = forms[0] if len(forms) == 1 else self._fitting(forms)
        operands = self.instruction.operands
        if len(operands) != len(form.operands):
            raise self.unknown(f"{len(operands)} operands are not known")
        names = {"d": self.target(operands[0], form.operands[0])}
        for name, operand, letter in zip("abce", operands[1:], form.operands[1:]):
            names[name] = self.source(operand, letter)
        for place, (operation, *rows) in enumerate(form.steps):
            cls = form.kind if place == 0 else Class.NONE
            self.step(cls, operation, [names[row] if row in names else self._implied(row) for row in rows])

    def _implied(self, name: str) -> int:
        """Row of a temporary, or of a constant that the instruction implies."""
        if name.startswith("#"):
            return self.constant("w", int(name[1:]))
        return self.row("d" if name.isupper() else "w", ("temporary", name))

    def _fitting(self, forms: Sequence[Form]) -> Form:
        """The form whose letters are those of the operands."""
        letters = [self.letter(operand) for operand in self.instruction.operands]
        for form in forms:
            if len(letters) == len(form.operands) and all(x in ("", y) for x, y in zip(letters, form.operands)):
                return form
        raise self.unknown("operands of these widths are not known")

    def _move_parts(self, part: str) -> None:
        """``mov`` between a register and the parts that a group names."""
        operands = self.instruction.operands
        groups = [isinstance(operand, Group) for operand in operands]
        if groups not in ([True, False], [False, True]):
            raise self.unknown("operands of this form are not known")
        group = operands[0] if groups[0] else operands[1]
        assert isinstance(group, Group)
        if len(group.elements) != 2:
            raise self.unknown(f"a group of {len(group.elements)} is not known")
        whole = "d" if part == "w" else "w"
        if groups[0]:
            self._split(group, self.source(operands[1], whole), part)
        else:
            low, high = (self.source(element, part) for element in group.elements)
            self._join(self.target(operands[0], whole), low, high, part)

    def _split(self, group: Group, source: int, part: str) -> None:
        low, high = (self.target(element, part) for element in group.elements)
        copy = self.row("d" if part == "w" else "w", ("temporary", "T" if part == "w" else "t"))
        if part == "w":
            self.step(Class.MOVE, "mov.b64", [copy, source])
            self.step(Class.NONE, "low.b64", [low, copy])
            self.step(Class.NONE, "high.b64", [high, copy])
        else:
            self.step(Class.MOVE, "mov.b32", [copy, source])
            self.step(Class.NONE, "zext.16", [low, copy])
            self.step(Class.NONE, "shr.u32", [high, copy, self.constant("w", 16)])

    def _join(self, target: int, low: int, high: int, part: str) -> None:
        if part == "w":
            self.step(Class.MOVE, "pack.b64", [target, low, high])
        else:
            above = self.row("w", ("temporary", "t"))
            self.step(Class.MOVE, "shl.b32", [above, high, self.constant("w", 16)])
            self.step(Class.NONE, "or.b32", [target, above, low])

    def _branch(self) -> None:
        operands = self.instruction.operands
        if len(operands) != 1 or not isinstance(operands[0], Symbol):
            raise self.unknown("a target of this form is not known")
        if operands[0].name not in self.function.labels:
            raise self.unknown(f"the label '{operands[0].name}' does not exist")
        self.branches.append((len(self.code), operands[0].name))
        self.emit(Kind.BRANCH, Class.BRANCH)

    def _barrier(self) -> None:
        operands = self.instruction.operands
        if len(operands) != 1 or not isinstance(operands[0], Constant) or self.guard >= 0:
            raise self.unknown("a barrier of this form is not known")
        self.emit(Kind.BARRIER, Class.BARRIER)

    def _exit(self) -> None:
        if self.instruction.operands:
            raise self.unknown("operands are not known")
        self.emit(Kind.EXIT, Class.EXIT)

    def _access(self, access: Access) -> None:
        operands = self.instruction.operands
        if len(operands) != 2 or not isinstance(operands[0 if access.store else 1], Address):
            raise self.unknown("operands of this form are not known")
        address, values = operands if access.store else reversed(operands)
        assert isinstance(address, Address)
        elements = values.elements if isinstance(values, Group) else (values,)
        if len(elements) != access.count or isinstance(values, Group) != (access.count > 1):
            raise self.unknown(f"the number of values is not {access.count}")
        if access.space == "param":
            self._load_parameter(access, address, elements[0])
        else:
            self._load_or_store(access, address, elements)

    def _load_parameter(self, access: Access, address: Address, value: Operand) -> None:
        name = address.base.name if isinstance(address.base, Symbol) else ""
        kind = self.function.parameters.get(name, "")
        if address.offset or access.count > 1 or kind[1:] != access.cell[1:]:
            raise self.unknown("a parameter of this form is not known")
        letter = _LETTERS[kind]
        move = "mov.b64" if letter == "d" else "mov.b32"
        self.step(Class.LOAD_PARAMETER, move, [self.target(value, letter), self.parameter(name, letter)])

    def _load_or_store(self, access: Access, address: Address, elements: Sequence[Operand]) -> None:
        bits = int(access.cell[1:])
        cell = _CELLS.get(access.cell, f"b{bits}")
        letters = [self._value_letter(element, bits) for element in elements]
        find = self._stored if access.store else self._loaded
        first, *others = [find(each, letter, bits, n) for n, (each, letter) in enumerate(zip(elements, letters))]
        base = self._base(address)
        if others and base in (first, *others):
            base = self._copy(base)
        cls = (_STORES if access.store else _LOADS)[access.space]
        more = {"offset": address.offset, "count": access.count, "wide": int(bits == 64)}
        more["space"] = SPACES.index(access.space)
        kind = Kind.STORE if access.store else Kind.LOAD
        self.emit(kind, cls, CELLS.index(cell), [first, base, *others], **more)
        if not access.store:
            for row, element, letter in zip((first, *others), elements, letters):
                self._extend(row, element, letter, access.cell)

    def _stored(self, element: Operand, letter: str, bits: int, number: int) -> int:
        """Row of a value that is stored; of a 64-bit register the lower part may be."""
        row = self.source(element, letter)
        if letter != "d" or bits == 64:
            return row
        part = self.row("w", ("value", number))
        self.step(Class.NONE, "low.b64", [part, row])
        return part

    def _loaded(self, element: Operand, letter: str, bits: int, number: int) -> int:
        """Row that a value is loaded into; a 64-bit register may get a narrower one."""
        row = self.target(element, letter)
        return row if letter != "d" or bits == 64 else self.row("w", ("value", number))

    def _extend(self, row: int, element: Operand, letter: str, cell: str) -> None:
        """Fit a loaded value to a register that is wider than its cell."""
        if letter == "h" and cell[0] == "s":
            self.step(Class.NONE, "zext.16", [row, row])
        elif letter == "d" and not cell.endswith("64"):
            sign = "s" if cell[0] == "s" else "u"
            self.step(Class.NONE, f"widen.{sign}32", [self.target(element, letter), row])

    def _copy(self, base: int) -> int:
        """A copy of an address that one of the loaded values would overwrite."""
        copy = self.row("d", ("temporary", "T"))
        self.step(Class.NONE, "mov.b64", [copy, base])
        return copy

    def _value_letter(self, element: Operand, bits: int) -> str:
        """Letter of the registers that an access of this many bits reads or writes."""
        exact = {8: "h", 16: "h", 32: "w", 64: "d"}[bits]
        if isinstance(element, Constant) or (isinstance(element, Register) and element.name == "_"):
            return exact
        letter = self.letter(element)
        return letter if letter in "hwd"["hwd".index(exact) :] else exact

    def _base(self, address: Address) -> int:
        """Row of an address before its offset is added."""
        base = address.base
        if isinstance(base, Constant):
            return self.constant("d", base.value)
        if self.letter(base) == "w":
            raise self.unknown("a 32-bit address is not known")
        return self.source(base, "d")


_MOVES = {"mov.b64": "w", "mov.b32": "h"}
"""Letter of the two parts that a ``mov`` with a group has."""

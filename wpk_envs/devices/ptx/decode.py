"""A parsed function to the dense integers that the machine runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wpk_envs.devices.ptx import isa
from wpk_envs.devices.ptx.isa import Access, Class, Form
from wpk_envs.devices.ptx.layout import CELLS, SPACES, Column, Kind
from wpk_envs.devices.ptx.operations import OPERATIONS
from wpk_envs.devices.ptx.problems import PtxError
from wpk_envs.devices.ptx.rows import LETTERS, Code, Rows, UnknownFormError
from wpk_envs.devices.ptx.syntax import Address, Constant, Function, Group, Instruction, Operand, Register, Symbol

_NUMBERS = {name: number for number, name in enumerate(OPERATIONS)}
_MOVES = {"mov.b64": "w", "mov.b32": "h"}
"""Letter of the two parts that a ``mov`` with a group has."""


def decode(function: Function) -> Code:
    """Decode a function.

    Raises:
        PtxError: For an instruction, modifier or operand form that is not known, with its line.
    """
    return _Decoder(function).run()


class _Decoder(Rows):
    """Collects rows and micro-operations of one function."""

    def __init__(self, function: Function) -> None:
        super().__init__(function)
        self.table: list[tuple[int, ...]] = []
        self.starts: list[int] = []
        self.branches: list[tuple[int, str]] = []
        self.instruction = Instruction(0, "", "", ())
        self.guard, self.wanted = -1, -1

    def run(self) -> Code:
        for instruction in self.function.instructions:
            self.starts.append(len(self.table))
            self.instruction = instruction
            try:
                self._decode(instruction)
            except UnknownFormError as why:
                raise self._unknown(str(why)) from None
        self.guard = -1
        self.starts.append(len(self.table))
        self.emit(Kind.EXIT, Class.NONE)
        code = np.array(self.table, np.int64)
        for place, label in self.branches:
            code[place, Column.TARGET] = self.starts[self.function.labels[label]]
        self.code.code = code
        return self.code

    def _unknown(self, why: str) -> PtxError:
        """The error for the instruction at hand."""
        text = " ".join(self.instruction.text.split())
        place = f"line {self.instruction.line} of kernel {self.function.name}"
        return PtxError(f"{place} cannot be interpreted: {why} in '{text}'")

    def emit(self, kind: int, cls: Class, number: int = 0, rows: Sequence[int] = (), **more: int) -> None:
        """Append a micro-operation."""
        d, a, b, c, e = [*rows, -1, -1, -1, -1, -1][:5]
        offset, *sizes = (more.get(name, 0) for name in ("offset", "wide", "count", "space"))
        rest = (offset, self.guard, self.wanted, *sizes, 0, cls, len(self.starts) - 1, 0)
        self.table.append((kind, number, d, a, b, c, e, *rest))

    def step(self, cls: Class, name: str, rows: Sequence[int]) -> None:
        """Append a computation."""
        kind = Kind.DIVIDE if name.startswith(("div.s", "div.u", "rem.")) else Kind.COMPUTE
        self.emit(kind, cls, _NUMBERS[name], rows, wide=int(OPERATIONS[name].result == "d"))

    def _decode(self, instruction: Instruction) -> None:
        self.guard = -1 if instruction.guard is None else self.source(Register(instruction.guard), "p")
        self.wanted = 0 if instruction.negated else -1
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
            raise UnknownFormError(f"the instruction '{self.instruction.opcode}' is not known")
        form = forms[0] if len(forms) == 1 else self._fitting(forms)
        operands = self.instruction.operands
        if len(operands) != len(form.operands):
            raise UnknownFormError(f"{len(operands)} operands are not known")
        names = {"d": self.target(operands[0], form.operands[0])}
        for name, operand, letter in zip("abce", operands[1:], form.operands[1:]):
            names[name] = self.source(operand, letter)
        for place, (operation, *rows) in enumerate(form.steps):
            cls = form.kind if place == 0 else Class.NONE
            self.step(cls, operation, [names[row] if row in names else self._implied(row) for row in rows])

    def _implied(self, name: str) -> int:
        """Row of a temporary, or of a constant that the instruction implies."""
        return self.constant("w", int(name[1:])) if name.startswith("#") else self.temporary(name)

    def _fitting(self, forms: Sequence[Form]) -> Form:
        """The form whose letters are those of the operands."""
        letters = [self.letter(operand) for operand in self.instruction.operands]
        for form in forms:
            if len(letters) == len(form.operands) and all(x in ("", y) for x, y in zip(letters, form.operands)):
                return form
        raise UnknownFormError("operands of these widths are not known")

    def _move_parts(self, part: str) -> None:
        """``mov`` between a register and the parts that a group names."""
        operands = self.instruction.operands
        groups = [isinstance(operand, Group) for operand in operands]
        if groups not in ([True, False], [False, True]):
            raise UnknownFormError("operands of this form are not known")
        group = operands[0] if groups[0] else operands[1]
        assert isinstance(group, Group)
        if len(group.elements) != 2:
            raise UnknownFormError(f"a group of {len(group.elements)} is not known")
        whole = "d" if part == "w" else "w"
        if groups[0]:
            self._split(group, self.source(operands[1], whole), part)
        else:
            low, high = (self.source(element, part) for element in group.elements)
            self._join(self.target(operands[0], whole), low, high, part)

    def _split(self, group: Group, source: int, part: str) -> None:
        low, high = (self.target(element, part) for element in group.elements)
        copy = self.temporary("T" if part == "w" else "t")
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
            above = self.temporary("t")
            self.step(Class.MOVE, "shl.b32", [above, high, self.constant("w", 16)])
            self.step(Class.NONE, "or.b32", [target, above, low])

    def _branch(self) -> None:
        operands = self.instruction.operands
        if len(operands) != 1 or not isinstance(operands[0], Symbol):
            raise UnknownFormError("a target of this form is not known")
        if operands[0].name not in self.function.labels:
            raise UnknownFormError(f"the label '{operands[0].name}' does not exist")
        self.branches.append((len(self.table), operands[0].name))
        self.emit(Kind.BRANCH, Class.BRANCH)

    def _barrier(self) -> None:
        operands = self.instruction.operands
        if len(operands) != 1 or not isinstance(operands[0], Constant) or self.guard >= 0:
            raise UnknownFormError("a barrier of this form is not known")
        self.emit(Kind.BARRIER, Class.BARRIER)

    def _exit(self) -> None:
        if self.instruction.operands:
            raise UnknownFormError("operands are not known")
        self.emit(Kind.EXIT, Class.EXIT)

    def _access(self, access: Access) -> None:
        operands = self.instruction.operands
        if len(operands) != 2 or not isinstance(operands[0 if access.store else 1], Address):
            raise UnknownFormError("operands of this form are not known")
        address, values = operands if access.store else reversed(operands)
        assert isinstance(address, Address)
        elements = values.elements if isinstance(values, Group) else (values,)
        if len(elements) != access.count or isinstance(values, Group) != (access.count > 1):
            raise UnknownFormError(f"the number of values is not {access.count}")
        if access.space == "param":
            self._load_parameter(access, address, elements[0])
        else:
            self._load_or_store(access, address, elements)

    def _load_parameter(self, access: Access, address: Address, value: Operand) -> None:
        name = address.base.name if isinstance(address.base, Symbol) else ""
        kind = self.function.parameters.get(name, "")
        if address.offset or access.count > 1 or kind[1:] != access.cell[1:]:
            raise UnknownFormError("a parameter of this form is not known")
        letter = LETTERS[kind]
        move = "mov.b64" if letter == "d" else "mov.b32"
        self.step(Class.LOAD_PARAMETER, move, [self.target(value, letter), self.parameter(name, letter)])

    def _load_or_store(self, access: Access, address: Address, elements: Sequence[Operand]) -> None:
        bits = int(access.cell[1:])
        cell = f"{'s' if access.cell[0] == 's' else 'u'}{bits}" if bits < 32 else f"b{bits}"
        letters = [self._value_letter(element, bits) for element in elements]
        find = self._stored if access.store else self._loaded
        first, *others = [find(each, letter, bits, n) for n, (each, letter) in enumerate(zip(elements, letters))]
        base = self._base(address)
        if others and base in (first, *others):
            base = self._copy(base)
        more = {"offset": address.offset, "count": access.count, "wide": int(bits == 64)}
        more["space"] = SPACES.index(access.space)
        kind = Kind.STORE if access.store else Kind.LOAD
        self.emit(kind, _class_of(access), CELLS.index(cell), [first, base, *others], **more)
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
        copy = self.temporary("T")
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
            raise UnknownFormError("a 32-bit address is not known")
        return self.source(base, "d")


def _class_of(access: Access) -> Class:
    """Class of a load or store that is none of a parameter."""
    space = "read_only" if access.read_only else access.space or "generic"
    return Class[f"{'STORE' if access.store else 'LOAD'}_{space.upper()}"]

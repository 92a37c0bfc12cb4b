"""The rows of a function: what every operand is to the machine.

A row has one element per thread. There are two files of rows, one of 32-bit words (float32, b32, b16 and
predicates) and one of 64-bit words. Constants, special registers, parameters and addresses of variables
are rows that are filled before the kernel starts, so that the machine knows rows only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wpk_envs.devices.ptx.layout import SPECIALS, WIDE_ROW, Column
from wpk_envs.devices.ptx.syntax import Constant, Function, Operand, Register, Symbol, Variable

LETTERS = {"pred": "p"}
"""Letter of every type of register: predicate, 16, 32 or 64 bits (see `wpk_envs.devices.ptx.isa`)."""
for _bits, _letter in (("16", "h"), ("32", "w"), ("64", "d")):
    LETTERS.update({f"{_sign}{_bits}": _letter for _sign in "bsu"})
LETTERS["f32"] = "w"

_MASKS = {"h": 0xFFFF, "w": 0xFFFFFFFF, "d": (1 << 64) - 1}


class UnknownFormError(Exception):
    """Why an instruction cannot be interpreted; the decoder adds the place."""


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
    """

    function: Function
    code: np.ndarray = field(default_factory=lambda: np.zeros((0, len(Column)), np.int64))
    words: int = 0
    longs: int = 0
    constants: dict[int, int] = field(default_factory=dict)
    specials: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)

    @property
    def variables(self) -> list[Variable]:
        """The arrays that the function refers to."""
        return [self.function.variables[name] for name in self.addresses]


class Rows:
    """Gives rows to operands as they appear.

    A row of the 64-bit file is its number plus `WIDE_ROW`.
    """

    def __init__(self, function: Function) -> None:
        self.function, self.code = function, Code(function)
        self._rows: dict[tuple[bool, object], int] = {}

    def row(self, letter: str, key: object) -> int:
        """The row that a key has in the file of a letter, a new one at first."""
        wide = letter == "d"
        known = self._rows.get((wide, key))
        if known is None:
            known = self.code.longs + WIDE_ROW if wide else self.code.words
            self.code.longs += wide
            self.code.words += not wide
            self._rows[wide, key] = known
        return known

    def temporary(self, name: str) -> int:
        """Row of a temporary: a 64-bit one if its name is a capital letter."""
        return self.row("d" if name.isupper() else "w", ("temporary", name))

    def constant(self, letter: str, value: int) -> int:
        """Row of a constant; of a predicate all bits are the same."""
        bits = -bool(value) & 0xFFFFFFFF if letter == "p" else value & _MASKS[letter]
        row = self.row(letter, bits)
        self.code.constants[row] = bits
        return row

    def letter(self, operand: Operand) -> str:
        """Letter of a register or a variable's address; empty for an immediate."""
        if isinstance(operand, Constant):
            return ""
        if isinstance(operand, Symbol):
            if operand.name in self.function.variables:
                return "d"
            raise UnknownFormError(f"'{operand.name}' is no variable")
        if not isinstance(operand, Register):
            raise UnknownFormError("an operand of this form is not known")
        if operand.name in SPECIALS:
            return "w"
        kind = self.function.registers.get(operand.name)
        if kind not in LETTERS:
            what = f"the type .{kind} of '{operand.name}'" if kind else f"the register '{operand.name}'"
            raise UnknownFormError(f"{what} is not known")
        return LETTERS[kind]

    def source(self, operand: Operand, letter: str) -> int:
        """Row of an operand that is read."""
        if isinstance(operand, Constant):
            if operand.real and letter != "w":
                raise UnknownFormError("a float constant of this width is not known")
            return self.constant(letter, operand.value)
        if self.letter(operand) != letter:
            name = operand.name if isinstance(operand, (Register, Symbol)) else operand
            raise UnknownFormError(f"the width of operand '{name}' does not fit")
        if isinstance(operand, Symbol):
            return self._address(operand.name)
        assert isinstance(operand, Register)
        row = self.row(letter, operand.name)
        if operand.name in SPECIALS:
            self.code.specials[operand.name] = row
        return row

    def target(self, operand: Operand, letter: str) -> int:
        """Row of an operand that is written."""
        if isinstance(operand, Register) and operand.name == "_":
            return self.row(letter, "_")
        if not isinstance(operand, Register) or operand.name in SPECIALS or self.letter(operand) != letter:
            raise UnknownFormError("a result of this form is not known")
        return self.row(letter, operand.name)

    def parameter(self, name: str, letter: str) -> int:
        """Row of a parameter."""
        self.code.parameters[name] = self.row(letter, ("parameter", name))
        return self.code.parameters[name]

    def _address(self, name: str) -> int:
        self.code.addresses[name] = self.row("d", ("address", name))
        return self.code.addresses[name]

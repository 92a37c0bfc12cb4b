"""What a PTX text consists of, once it is read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Register:
    """A register, a special register (``%tid.x``) or ``_``, the register that swallows a value."""

    name: str


@dataclass(frozen=True)
class Constant:
    """An immediate: an integer, or the bits of a float32."""

    value: int
    real: bool = False


@dataclass(frozen=True)
class Symbol:
    """The name of a variable, a parameter or a label."""

    name: str


@dataclass(frozen=True)
class Address:
    """``[base + offset]``, offset in bytes."""

    base: Register | Symbol | Constant
    offset: int


@dataclass(frozen=True)
class Group:
    """``{a, b, ...}``: several registers or constants that one instruction reads or writes."""

    elements: tuple[Register | Constant, ...]


Operand = Register | Constant | Symbol | Address | Group


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        line: Line of the text, from 1.
        text: The instruction as it is written, without its semicolon.
        opcode: With all modifiers, such as ``fma.rn.ftz.f32``.
        operands: In the order of the text.
        guard: Predicate register that decides per thread whether it runs.
        negated: It runs where the guard is false.
    """

    line: int
    text: str
    opcode: str
    operands: tuple[Operand, ...]
    guard: str | None = None
    negated: bool = False


@dataclass(frozen=True)
class Variable:
    """A ``.shared`` or ``.local`` array.

    Attributes:
        name: Its symbol.
        space: ``"shared"`` or ``"local"``.
        bytes: Its size; None for ``.extern``, whose size the launch gives.
        align: Alignment in bytes.
    """

    name: str
    space: str
    bytes: int | None
    align: int


@dataclass
class Function:
    """One ``.entry``.

    Attributes:
        name: Its symbol.
        parameters: Type (``u64``, ``u32``, ``f32``) by name, in order.
        bounds: What ``.maxntid``, ``.reqntid`` and the like say, by name.
        registers: Type (``pred``, ``b16``, ``b32``, ``b64``, ``f32``) by name.
        variables: The arrays it may use, those of the module included.
        instructions: In order.
        labels: Place in ``instructions`` by name.
    """

    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    bounds: dict[str, tuple[int, ...]] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


@dataclass
class Module:
    """One PTX text.

    Attributes:
        target: Architecture, such as ``sm_60``.
        functions: Every ``.entry`` by name.
    """

    target: str
    functions: dict[str, Function]

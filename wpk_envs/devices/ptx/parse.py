"""PTX text to typed structures.

The text is read from front to back by one regular grammar; anything that the grammar does not have is a
`PtxError` with its line. What an instruction means is not decided here: see `wpk_envs.devices.ptx.isa`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from wpk_envs.devices.ptx.problems import PtxError
from wpk_envs.devices.ptx.syntax import (
    Address,
    Constant,
    Function,
    Group,
    Instruction,
    Module,
    Operand,
    Register,
    Symbol,
    Variable,
)

_SPACE = r"(?:\s|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)*"
_NAME = r"[A-Za-z_$%][\w$]*"
_ARRAY = rf"\.align\s+(?P<align>\d+)\s+\.b8\s+(?P<name>{_NAME})\s*\[\s*(?P<size>\d*)\s*\]\s*;"

_MODULE = re.compile(
    rf"""{_SPACE}(?:
    (?P<version>\.version\s+[\d.]+)
    |\.target\s+(?P<target>\w+)
    |\.address_size\s+(?P<address>\d+)
    |(?:\.visible\s+)?\.entry\s+(?P<entry>{_NAME})\s*
    |(?:\.(?:visible|extern|weak)\s+)?\.(?P<space>shared|global|const)\s+{_ARRAY}
    |(?P<end>\Z))""",
    re.VERBOSE,
)
_HEADER = re.compile(
    rf"""{_SPACE}(?:
    \.param\s+\.(?P<type>u64|u32|s32|f32|b64|b32|s64)\s+
        (?:\.ptr\s+(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?(?P<parameter>{_NAME})\s*,?
    |(?P<bracket>[()])
    |\.(?P<bound>maxntid|reqntid|minnctapersm|maxnreg)\s+(?P<numbers>\d+(?:\s*,\s*\d+)*)
    |(?P<body>\{{))""",
    re.VERBOSE,
)
_BODY = re.compile(
    rf"""{_SPACE}(?:
    (?P<label>{_NAME}):
    |(?:@(?P<guard>!?%[\w$]+)\s+)?(?P<opcode>[a-z][\w.:]*)(?P<operands>(?:\s(?:[^;{{}}]|\{{[^{{}};]*\}})*)?);
    |\.reg\s+\.(?P<type>\w+)\s+(?P<registers>[^;]+);
    |\.(?P<space>local|shared)\s+{_ARRAY}
    |(?P<pragma>\.pragma\s+"[^"]*"\s*;)
    |(?P<open>\{{)
    |(?P<close>\}}))""",
    re.VERBOSE,
)
_OPERAND = re.compile(r"\s*(\{[^{}]*\}|\[[^][]*\]|[^\s,{}[\]]+)\s*(?:,|\Z)")
_REGISTERS = re.compile(rf"\s*({_NAME})\s*(?:<(\d+)>)?\s*(?:,|\Z)")
_TERM = re.compile(
    r"""(?P<register>%[\w$]+(?:\.[xyzw])?|_)\Z
    |0[fF](?P<real>[0-9a-fA-F]{8})\Z
    |(?P<integer>-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+))U?\Z
    |(?P<symbol>[A-Za-z_$][\w$]*)\Z""",
    re.VERBOSE,
)
_ADDRESS = re.compile(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+)\s*)?\]\Z")


def parse(text: str) -> Module:
    """Read a PTX text.

    Raises:
        PtxError: With the line of the first thing that is not understood.
    """
    return _Reader(text).module()


class _Reader:
    """Reads one text from front to back."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.line, self.counted = text, 0, 1, 0

    def next(self, grammar: re.Pattern[str]) -> re.Match[str]:
        """The next piece of text by a grammar, and its line."""
        found = grammar.match(self.text, self.at)
        if found is None:
            start = re.compile(_SPACE).match(self.text, self.at)
            self._advance(start.end() if start else self.at)
            rest = self.text[self.at :].split("\n", 1)[0].strip()
            raise PtxError(f"line {self.line} of the PTX is not understood: '{rest}'")
        self._advance(found.start(found.lastgroup) if found.lastgroup else found.end())
        self.at = found.end()
        return found

    def _advance(self, to: int) -> None:
        self.line += self.text.count("\n", self.counted, to)
        self.counted = self.at = to

    def module(self) -> Module:
        module = Module("", {})
        shared: dict[str, Variable] = {}
        while (found := self.next(_MODULE))["end"] is None:
            if found["target"]:
                module.target = found["target"]
            elif found["address"] not in (None, "64"):
                raise PtxError(f"line {self.line} of the PTX has {found['address']}-bit addresses, only 64 are known")
            elif found["entry"]:
                function = Function(found["entry"], variables=dict(shared))
                self.function(function)
                module.functions[function.name] = function
            elif found["space"]:
                shared[found["name"]] = self.variable(found)
        return module

    def variable(self, found: re.Match[str]) -> Variable:
        if found["space"] not in ("shared", "local"):
            name = f"'{found['name']}' in .{found['space']} memory"
            raise PtxError(f"line {self.line} of the PTX declares {name}; only .shared and .local arrays are known")
        size = int(found["size"]) if found["size"] else None
        return Variable(found["name"], found["space"], size, int(found["align"]))

    def function(self, function: Function) -> None:
        while (found := self.next(_HEADER))["body"] is None:
            if found["parameter"]:
                function.parameters[found["parameter"]] = found["type"]
            elif found["bound"]:
                function.bounds[found["bound"]] = tuple(int(number) for number in found["numbers"].split(","))
        self.body(function, {})

    def body(self, function: Function, renamed: dict[str, str]) -> None:
        """Read up to the closing brace; registers of an inner block are renamed, for they may hide outer ones."""
        while (found := self.next(_BODY))["close"] is None:
            if found["opcode"]:
                function.instructions.append(self.instruction(found, renamed))
            elif found["label"]:
                function.labels[found["label"]] = len(function.instructions)
            elif found["registers"]:
                self.registers(function, found, renamed)
            elif found["space"]:
                function.variables[found["name"]] = self.variable(found)
            elif found["open"]:
                self.body(function, {**renamed, "": f"@{self.line}"})

    def registers(self, function: Function, found: re.Match[str], renamed: dict[str, str]) -> None:
        for name, count in self.split(_REGISTERS, found["registers"]):
            for one in [f"{name}{i}" for i in range(int(count))] if count else [name]:
                if "" in renamed:
                    renamed[one] = f"{one if one[0] == '%' else '%' + one}{renamed['']}"
                function.registers[renamed.get(one, one)] = found["type"]

    def instruction(self, found: re.Match[str], renamed: dict[str, str]) -> Instruction:
        texts = self.split(_OPERAND, found["operands"])
        operands = tuple([self.operand(text, renamed) for (text,) in texts])
        guard = found["guard"]
        text = f"{'@' + guard + ' ' if guard else ''}{found['opcode']}{found['operands']}"
        name = guard.lstrip("!") if guard else None
        return Instruction(
            self.line,
            text,
            found["opcode"],
            operands,
            renamed.get(name, name) if name else None,
            bool(guard) and guard[0] == "!",
        )

    def split(self, grammar: re.Pattern[str], text: str) -> list[tuple[str, ...]]:
        """The parts of a list that is separated by commas."""
        at, parts = 0, []
        while text[at:].strip():
            found = grammar.match(text, at)
            if found is None:
                raise PtxError(f"line {self.line} of the PTX is not understood: '{text.strip()}'")
            parts.append(found.groups())
            at = found.end()
        return parts

    def operand(self, text: str, renamed: dict[str, str]) -> Operand:
        try:
            operand = _operand(text)
        except ValueError:
            raise PtxError(f"line {self.line} of the PTX has an operand that is not understood: '{text}'") from None
        return _rename(operand, renamed) if renamed else operand


@lru_cache(maxsize=1 << 16)
def _operand(text: str) -> Operand:
    """One operand; ValueError if it has no known form."""
    if text[0] == "{":
        elements = tuple(_term(part.strip()) for part in text[1:-1].split(","))
        if any(isinstance(element, Symbol) for element in elements):
            elements = tuple(Register(x.name) if isinstance(x, Symbol) else x for x in elements)
        return Group(elements)  # type: ignore[arg-type]
    if text[0] != "[":
        return _term(text)
    found = _ADDRESS.match(text)
    if found is None:
        raise ValueError(text)
    return Address(_term(found[1]), int(found[2] or "0", 0))


def _term(text: str) -> Register | Constant | Symbol:
    found = _TERM.match(text)
    if found is None:
        raise ValueError(text)
    if found["register"]:
        return Register(text)
    if found["real"]:
        return Constant(int(found["real"], 16), real=True)
    if found["integer"]:
        return Constant(int(found["integer"], 0))
    return Symbol(text)


def _rename(operand: Operand, renamed: dict[str, str]) -> Operand:
    """The operand with the names of an inner block's registers."""
    if isinstance(operand, (Register, Symbol)):
        return Register(renamed[operand.name]) if operand.name in renamed else operand
    if isinstance(operand, Group):
        return Group(tuple(_rename(x, renamed) for x in operand.elements))  # type: ignore[misc]
    if isinstance(operand, Address):
        return Address(_rename(operand.base, renamed), operand.offset)  # type: ignore[arg-type]
    return operand

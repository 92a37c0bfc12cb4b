"""What a block of a kernel does, counted a second time: warp by warp and thread by thread, in plain Python.

Nothing is shared with the interpreter but the parsed text and the table of instructions' classes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.ptx_reference import bits_of, evaluate, signed
from wpk_envs.devices.ptx import BlockCounts, Class, Cycles, Function, isa
from wpk_envs.devices.ptx.syntax import Address, Constant, Group, Instruction, Operand, Register, Symbol

Segment = Counter[Any]
DONE = 1 << 60
SPACE = 1 << 32
"""Distance between arrays."""


class Warp:
    """The threads of one warp, from its start to its end."""

    def __init__(self, block: ReferenceBlock, number: int) -> None:
        self.block, self.function, self.cycles = block, block.function, block.cycles
        self.threads = range(32 * number, min(32 * number + 32, block.threads))
        self.registers: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.places = dict.fromkeys(self.threads, 0)
        self.segments: list[Segment] = []
        self.start()

    def start(self) -> None:
        self.counts, self.path, self.clock = Counter(), 0, 0
        self.free: dict[str, int] = defaultdict(int)
        self.in_order: dict[str, int] = defaultdict(int)

    def finish(self) -> None:
        self.counts["critical path"], self.counts["issue path"] = self.path, self.clock
        self.segments.append(self.counts)
        self.start()

    def run(self) -> None:
        count = len(self.function.instructions)
        while (place := min(self.places.values())) < count:
            active = [thread for thread in self.threads if self.places[thread] == place]
            self.step(self.function.instructions[place], active, place)
        self.finish()

    def step(self, instruction: Instruction, active: list[int], place: int) -> None:
        chosen = [thread for thread in active if self.holds(instruction, thread)]
        kind = class_of(instruction.opcode)
        self.counts["instructions", kind] += 1
        self.follow(instruction, kind)
        for thread in active:
            self.places[thread] = place + 1
        if kind == Class.BRANCH:
            self.counts["divergent"] += 0 < len(chosen) < len(active)
            for thread in chosen:
                self.places[thread] = self.function.labels[instruction.operands[0].name]
        elif kind == Class.EXIT:
            for thread in chosen:
                self.places[thread] = DONE
        elif kind == Class.BARRIER:
            assert len(active) == len(self.threads)
            self.finish()
        elif access := isa.access(instruction.opcode):
            self.access(instruction, access, kind, chosen)
        else:
            self.compute(instruction, chosen)

    def holds(self, instruction: Instruction, thread: int) -> bool:
        return instruction.guard is None or bool(self.registers[instruction.guard][thread]) != instruction.negated

    def follow(self, instruction: Instruction, kind: Class) -> None:
        """Data through registers, once without and once with the order of issue."""
        targets, sources = parts(instruction)
        done = max([0, *(self.free[name] for name in sources)]) + self.cycles.latency.get(kind, 0)
        self.path = max(self.path, done)
        issued = max([self.clock, *(self.in_order[name] for name in sources)])
        self.clock = issued + self.cycles.issue.get(kind, 1)
        for name in targets:
            self.free[name], self.in_order[name] = done, issued + self.cycles.latency.get(kind, 0)

    def value(self, operand: Operand, thread: int, kind: str) -> int:
        if isinstance(operand, Constant):
            return operand.value & ((1 << bits_of(kind)) - 1)
        if isinstance(operand, Symbol):
            return self.block.addresses[operand.name]
        assert isinstance(operand, Register)
        special = self.block.special(operand.name, thread)
        return self.registers[operand.name][thread] if special is None else special

    def compute(self, instruction: Instruction, chosen: list[int]) -> None:
        target, *sources = instruction.operands
        kind = instruction.opcode.split(".")[-1]
        if kind == "f32" and not instruction.opcode.startswith("cvt"):
            return  # floats decide nothing
        bits = bits_of(self.function.registers[target.name])
        for thread in chosen:
            values = [self.value(source, thread, kind) for source in sources]
            self.registers[target.name][thread] = evaluate(instruction.opcode, values) & ((1 << bits) - 1)

    def access(self, instruction: Instruction, access: isa.Access, kind: Class, chosen: list[int]) -> None:
        address = next(operand for operand in instruction.operands if isinstance(operand, Address))
        if access.space == "param":
            for thread in chosen:
                self.registers[instruction.operands[0].name][thread] = self.block.addresses[address.base.name]
            return
        size = bits_of(access.cell if access.cell != "f32" else "b32") // 8 * access.count
        reached = {
            thread: (self.value(address.base, thread, "u64") + signed(address.offset, "s64")) & ((1 << 64) - 1)
            for thread in chosen
        }
        if not reached:
            return
        self.counts["requests", kind, {4: 0, 8: 1, 16: 2}[max(size, 4)]] += 1
        units = {"global": self.sectors, "shared": self.passes, "local": self.slices}[access.space]
        self.counts["transactions", kind] += units(reached, size, access.store)

    def sectors(self, reached: Mapping[int, int], size: int, store: bool) -> int:
        sectors = {byte // 32 for address in reached.values() for byte in range(address, address + size)}
        self.block.sectors[store].update(sectors)
        return len(sectors)

    def passes(self, reached: Mapping[int, int], size: int, store: bool) -> int:
        total, together = 0, 32 // max(1, size // 4)
        for start in range(0, 32, together):
            addresses = [
                address for thread, address in reached.items() if thread % 32 in range(start, start + together)
            ]
            words = {byte // 4 for address in addresses for byte in range(address, address + size)}
            total += max(Counter(word % 32 for word in words).values(), default=0)
        return total

    def slices(self, reached: Mapping[int, int], size: int, store: bool) -> int:
        return len({
            (byte // 4, thread % 32 // 8)
            for thread, address in reached.items()
            for byte in range(address, address + size)
        })  # fmt: skip


class ReferenceBlock:
    """One block; arrays are wherever it likes."""

    def __init__(
        self,
        function: Function,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[int | None],
        cycles: Cycles,
        number: int,
    ) -> None:
        """Count a block; arguments are numbers, or None for arrays."""
        self.function, self.cycles = function, cycles
        self.sizes = {"ntid": (*block, 1, 1)[:3], "nctaid": (*grid, 1, 1)[:3]}
        self.number, self.threads = number, self.sizes["ntid"][0] * self.sizes["ntid"][1] * self.sizes["ntid"][2]
        given = dict(zip(function.parameters, arguments))
        names = [name for name, value in given.items() if value is None] + list(function.variables)
        self.addresses = {name: (place + 3) * SPACE for place, name in enumerate(names)}
        self.addresses |= {name: value for name, value in given.items() if value is not None}
        self.sectors: tuple[set[int], set[int]] = (set(), set())
        warps = [Warp(self, number) for number in range(-(-self.threads // 32))]
        for warp in warps:
            warp.run()
        self.segments = Counter(combined(parts) for parts in zip(*(warp.segments for warp in warps), strict=True))

    def special(self, name: str, thread: int) -> int | None:
        """The value of a special register."""
        family, _, axis = name.lstrip("%").partition(".")
        if family not in ("tid", "ntid", "ctaid", "nctaid") or not axis:
            return None
        if family in self.sizes:
            return self.sizes[family]["xyz".index(axis)]
        sizes, rest = self.sizes["ntid" if family == "tid" else "nctaid"], thread if family == "tid" else self.number
        return (rest % sizes[0], rest // sizes[0] % sizes[1], rest // (sizes[0] * sizes[1]))["xyz".index(axis)]

    def distinct(self, store: bool, arguments: Sequence[int | None]) -> list[int]:
        """Different sectors by argument."""
        by_array = Counter(sector * 32 // SPACE for sector in self.sectors[store])
        starts = [self.addresses[name] // SPACE for name in self.function.parameters]
        return [by_array[start] if value is None else 0 for start, value in zip(starts, arguments)]


def combined(parts: Sequence[Segment]) -> frozenset[Any]:
    """A segment of all warps: sums, and the paths of the slowest."""
    total: Segment = Counter()
    for part in parts:
        total.update(part)
    for path in ("critical path", "issue path"):
        total[path] = max(part[path] for part in parts)
    return frozenset((key, value) for key, value in total.items() if value)


def parts(instruction: Instruction) -> tuple[list[str], list[str]]:
    """Names of the registers that an instruction sets, and reads."""
    names: list[list[str]] = [[], [instruction.guard] if instruction.guard else []]
    access = isa.access(instruction.opcode)
    is_effect = (access is not None and access.store) or class_of(instruction.opcode) >= Class.BRANCH
    for place, operand in enumerate(instruction.operands):
        elements = operand.elements if isinstance(operand, Group) else [operand]
        bases = [operand.base] if isinstance(operand, Address) else elements
        is_source = place > 0 or is_effect or isinstance(operand, Address)
        names[is_source] += [base.name for base in bases if isinstance(base, Register)]
    return names[0], names[1]


def class_of(opcode: str) -> Class:
    access = isa.access(opcode)
    if access is not None:
        space = {"param": "PARAMETER"}.get(access.space, access.space.upper())
        return Class["LOAD_READ_ONLY" if ".nc" in opcode else f"{'STORE' if access.store else 'LOAD'}_{space}"]
    effects: dict[str, Callable[[], Class]] = {
        "bra": lambda: Class.BRANCH,
        "bar": lambda: Class.BARRIER,
        "ret": lambda: Class.EXIT,
    }
    name = opcode.split(".")[0]
    return effects[name]() if name in effects else isa.known()[opcode][0].kind


def segments_of(counts: BlockCounts) -> Counter[frozenset[Any]]:
    """The interpreter's counts as `ReferenceBlock.segments` has them."""
    found: Counter[frozenset[Any]] = Counter()
    for place, repeats in enumerate(counts.repeats.tolist()):
        segment: Segment = Counter()
        for kind in Class:
            segment["instructions", kind] = int(counts.instructions[place, kind])
            segment["transactions", kind] = int(counts.transactions[place, kind])
            for width in range(3):
                segment["requests", kind, width] = int(counts.requests[place, kind, width])
        segment["divergent"] = int(counts.divergent[place])
        segment["critical path"] = int(counts.critical_path[place])
        segment["issue path"] = int(counts.issue_path[place])
        found[frozenset((key, value) for key, value in segment.items() if value)] += repeats
    return found

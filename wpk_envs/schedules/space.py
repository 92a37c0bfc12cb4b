"""Schedule spaces: every template that fits an operator, joined into one searchable whole.

The valid configs of a space are held as a multi-valued decision diagram, one layer per knob of the
encoding. A node stands for all prefixes with the same future, so spaces of a billion configs take a few
thousand nodes, and everything is exact: a mask is one row of a table, the size is the root's count, a
uniform sample is an unranked random number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np

from wpk_envs.core import Candidate, Config, Constraint, DeviceInfo, Knob, KnobValue, Operator, Template
from wpk_envs.errors import UserError

UNUSED = "unused"
"""What a knob reads as when the chosen template lacks it: its option 0 is then the only one allowed."""

INVALID_NODE = -1
Prefix = tuple[int, ...]


@dataclass(frozen=True)
class Encoding:
    """All knobs of a device kind's templates in a fixed order, the template first.

    Every space of one device kind shares it, so that observations and actions have the same shape for
    every operator and a policy transfers. ``version`` rises whenever knobs or options change.
    """

    device_kind: str
    version: int
    knobs: tuple[Knob, ...]

    @property
    def width(self) -> int:
        """Length of the longest option list: the size of the ``construct`` action space."""
        return max(len(knob.options) for knob in self.knobs)

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """Slot of every knob by name."""
        return {knob.name: position for position, knob in enumerate(self.knobs)}


class ScheduleSpace:
    """The valid configs of one operator on one device, with exact masks and uniform sampling.

    A *vector* holds one option number per knob of the encoding; a *prefix* is its beginning. A *node*
    identifies what may follow a prefix: start at `root` and follow `child`.

    Args:
        operator: What is computed.
        device: Where; its limits enter the constraints.
        templates: Candidates; those that do not fit the operator are left out.
        encoding: The device kind's knobs.
        reduction: Shorter option lists of some knobs, by name: the others of their options are not valid.

    Raises:
        UserError: If no template fits, or none has a valid config.
    """

    def __init__(
        self,
        operator: Operator,
        device: DeviceInfo,
        templates: Sequence[Template],
        encoding: Encoding,
        reduction: Mapping[str, Sequence[KnobValue]] = MappingProxyType({}),
    ) -> None:
        self.operator = operator
        self.device = device
        self.encoding = encoding
        self.templates = {t.name.split("/")[-1]: t for t in templates if t.fits(operator, device)}
        if not self.templates:
            raise UserError(f"no schedule template for {device.kind} fits {operator.label}")
        self._constraints = {
            name: [*t.constraints(operator, device), *_shortened(t, reduction)] for name, t in self.templates.items()
        }
        builder = DiagramBuilder(encoding, {n: t.knobs for n, t in self.templates.items()}, self._constraints)
        self.root = self._build(builder)
        self._children, self._counts = builder.children, builder.counts
        if self.root == INVALID_NODE:
            raise UserError(f"no config of {', '.join(self.templates)} is valid for {operator.label} on {device.name}")
        self.masks = np.zeros((len(self._children), encoding.width), dtype=bool)
        """Allowed options of every node, ``bool[nodes, width]``."""
        for node, children in enumerate(self._children):
            for option, child in enumerate(children):
                self.masks[node, option] = child != INVALID_NODE

    def _build(self, builder: DiagramBuilder) -> int:
        """Build the diagram; its root."""
        return builder.build()

    @property
    def size(self) -> int:
        """Number of valid configs."""
        return self._counts[self.root]

    @property
    def length(self) -> int:
        """Number of knobs in the encoding: the length of a vector."""
        return len(self.encoding.knobs)

    def child(self, node: int, option: int) -> int:
        """The node after choosing an option, `INVALID_NODE` if nothing valid follows."""
        children = self._children[node]
        return children[option] if 0 <= option < len(children) else INVALID_NODE

    def count(self, node: int) -> int:
        """Number of valid completions of a node."""
        return self._counts[node]

    def node(self, prefix: Sequence[int]) -> int:
        """The node after a prefix, `INVALID_NODE` if the prefix has no valid completion."""
        node = self.root
        for option in prefix:
            node = self.child(node, int(option))
            if node == INVALID_NODE:
                return INVALID_NODE
        return node

    def mask(self, prefix: Sequence[int] = ()) -> np.ndarray:
        """Options of the next knob that some valid config continues with, ``bool[width]``.

        Exact: an option is allowed if and only if a valid completion exists.
        """
        node = self.node(prefix)
        if node == INVALID_NODE or len(prefix) >= self.length:
            return np.zeros(self.encoding.width, dtype=bool)
        return self.masks[node].copy()

    def is_valid(self, vector: Sequence[int]) -> bool:
        """Whether a full vector is a valid config."""
        return len(vector) == self.length and self.node(vector) != INVALID_NODE

    def unrank(self, rank: int) -> Prefix:
        """The valid vector number ``rank``, in lexicographic order, ``0 <= rank < size``."""
        if not 0 <= rank < self.size:
            raise IndexError(f"rank {rank} is outside 0..{self.size - 1}")
        node, vector = self.root, []
        for _ in range(self.length):
            for option, child in enumerate(self._children[node]):
                count = self._counts[child] if child != INVALID_NODE else 0
                if rank < count:
                    vector.append(option)
                    node = child
                    break
                rank -= count
        return tuple(vector)

    def sample(self, rng: np.random.Generator) -> Prefix:
        """Draw a vector uniformly over all valid configs."""
        return self.unrank(_random_below(rng, self.size))

    def __iter__(self) -> Iterator[Prefix]:
        """All valid vectors in lexicographic order."""
        stack: list[tuple[int, Prefix]] = [(self.root, ())]
        while stack:
            node, prefix = stack.pop()
            if len(prefix) == self.length:
                yield prefix
                continue
            for option in range(len(self._children[node]) - 1, -1, -1):
                child = self._children[node][option]
                if child != INVALID_NODE:
                    stack.append((child, (*prefix, option)))

    def neighbours(self, vector: Sequence[int]) -> list[Prefix]:
        """All valid vectors that differ from a valid one in exactly one knob of its template."""
        start = tuple(int(v) for v in vector)
        found = []
        for position in range(1, self.length):
            node = self.node(start[:position])
            for option in np.flatnonzero(self.masks[node]):
                if option != start[position]:
                    other = (*start[:position], int(option), *start[position + 1 :])
                    if self.is_valid(other):
                        found.append(other)
        return found

    def repair(self, vector: Sequence[int]) -> Prefix:
        """The valid vector reached by taking, knob by knob, the allowed option nearest to the given one."""
        node, repaired = self.root, []
        for wanted in vector:
            children = self._children[node]
            allowed = [option for option, child in enumerate(children) if child != INVALID_NODE]
            repaired.append(min(allowed, key=lambda option: abs(option - wanted)))
            node = children[repaired[-1]]
        return tuple(repaired)

    def decode(self, prefix: Sequence[int]) -> dict[str, KnobValue]:
        """A vector, or its beginning, as a config; knobs that the template lacks are left out.

        Raises:
            ValueError: If the template or one of its knobs has no such option.
        """
        config: dict[str, KnobValue] = {}
        used: tuple[str, ...] = ()
        for position, (knob, option) in enumerate(zip(self.encoding.knobs, prefix)):
            if position and knob.name not in used:
                continue
            if not 0 <= option < len(knob.options):
                raise ValueError(f"knob {knob.name} has options 0..{len(knob.options) - 1}, not {option}")
            config[knob.name] = knob.options[option]
            if position == 0:
                template = self.templates.get(str(knob.options[option]))
                if template is None:
                    fitting = ", ".join(self.templates)
                    raise ValueError(f"template {knob.options[option]} does not fit here (fitting: {fitting})")
                used = template.knobs
        return config

    def encode(self, config: Config) -> Prefix:
        """A config as a vector; the inverse of `decode`.

        Raises:
            UserError: If a knob is missing, unknown, or has no such option.
        """
        extra = set(config) - set(self.encoding.positions)
        if extra:
            raise UserError(f"config has unknown knobs {sorted(extra)} (known: {', '.join(self.encoding.positions)})")
        template = self.templates.get(str(config.get("template")))
        if template is None:
            raise UserError(f"config needs a template that fits {self.operator.label}: {', '.join(self.templates)}")
        vector = []
        for position, knob in enumerate(self.encoding.knobs):
            if position and knob.name not in template.knobs:
                vector.append(0)
            elif config.get(knob.name) not in knob.options:
                given = config.get(knob.name, "nothing")
                raise UserError(f"knob {knob.name} is given {given!r}, its options are {list(knob.options)}")
            else:
                vector.append(knob.options.index(config[knob.name]))
        return tuple(vector)

    def candidate(self, vector: Sequence[int]) -> Candidate:
        """The candidate of a full vector."""
        config = self.decode(vector)
        return Candidate(self.operator, self.templates[str(config["template"])], config)

    def explain(self, vector: Sequence[int]) -> str:
        """Why a full vector is invalid, in a sentence; empty if it is valid."""
        if len(vector) != self.length:
            return f"a config has {self.length} options, one per knob, not {len(vector)}"
        try:
            config = self.decode(vector)
        except ValueError as error:
            return str(error)
        for knob, option in zip(self.encoding.knobs, vector):
            if knob.name not in config and option != 0:
                return f"{config['template']} has no knob {knob.name}: its option must be 0 (unused), not {option}"
        for constraint in self._constraints[str(config["template"])]:
            values = [config[name] for name in constraint.knobs]
            if not constraint.allows(*values):
                given = ", ".join(f"{name}={value}" for name, value in zip(constraint.knobs, values))
                return f"{given} breaks the rule: {constraint.reason}"
        return ""


def _shortened(template: Template, reduction: Mapping[str, Sequence[KnobValue]]) -> list[Constraint]:
    """The rules of a reduction that concern a template."""
    return [
        Constraint((name,), lambda value, kept=tuple(kept): value in kept, f"the reduced space has {name} in {kept}")
        for name, kept in reduction.items()
        if name in template.knobs
    ]


def _random_below(rng: np.random.Generator, bound: int) -> int:
    """A uniform integer in ``[0, bound)`` for bounds beyond 64 bits too."""
    if bound <= 2**62:
        return int(rng.integers(bound))
    bits = bound.bit_length()
    while True:
        value = int.from_bytes(rng.bytes((bits + 7) // 8), "little") >> (-bits % 8)
        if value < bound:
            return value


class DiagramBuilder:
    """Builds the diagram depth first, merging prefixes that leave the same choices open.

    Two prefixes of one template have the same future if they agree on the *frontier*: the knobs that some
    constraint still to be completed reads. That makes the memo; nodes with equal children are one node.
    """

    def __init__(
        self,
        encoding: Encoding,
        knobs_of: dict[str, tuple[str, ...]],
        constraints_of: dict[str, list[Constraint]],
    ) -> None:
        self.encoding = encoding
        self.knobs_of = knobs_of
        self.constraints_of = constraints_of
        self.children: list[tuple[int, ...]] = [()]  # node 0: a complete config
        self.counts: list[int] = [1]
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}

    def build(self) -> int:
        """Build every layer; the root, or `INVALID_NODE` if the space is empty."""
        children = tuple(
            self._template_root(str(name)) if str(name) in self.knobs_of else INVALID_NODE
            for name in self.encoding.knobs[0].options
        )
        return self.node(0, children)

    def node(self, depth: int, children: tuple[int, ...]) -> int:
        """The node with these children, made once; `INVALID_NODE` if it has none."""
        if all(child == INVALID_NODE for child in children):
            return INVALID_NODE
        key = (depth, children)
        if key not in self._known:
            self._known[key] = len(self.children)
            self.children.append(children)
            self.counts.append(sum(self.counts[child] for child in children if child != INVALID_NODE))
        return self._known[key]

    def _template_root(self, template: str) -> int:
        knobs = self.encoding.knobs
        positions = self.encoding.positions
        used = {positions[name] for name in self.knobs_of[template]}
        rules = []
        for constraint in self.constraints_of[template]:
            slots = tuple(positions[name] for name in constraint.knobs)
            unknown = [name for name, slot in zip(constraint.knobs, slots) if slot not in used]
            if unknown:
                raise ValueError(f"a constraint of {template} reads knobs it does not have: {unknown}")
            rules.append((max(slots), slots, constraint.allows))
        completed = [
            [(allows, _picker(slots)) for last, slots, allows in rules if last == depth] for depth in range(len(knobs))
        ]
        frontiers = [
            _picker(sorted({slot for last, slots, _ in rules if last >= depth for slot in slots if slot < depth}))
            for depth in range(len(knobs))
        ]
        options = [knob.options if slot in used else knob.options[:1] for slot, knob in enumerate(knobs)]
        values: list[Any] = [None] * len(knobs)  # of the prefix that is being continued
        known: dict[tuple[int, tuple[Any, ...]], int] = {}

        def build(depth: int) -> int:
            if depth == len(knobs):
                return 0
            key = (depth, frontiers[depth](values))
            if key not in known:
                children = []
                for value in options[depth]:
                    values[depth] = value
                    allowed = all(allows(*pick(values)) for allows, pick in completed[depth])
                    children.append(build(depth + 1) if allowed else INVALID_NODE)
                known[key] = self.node(depth, tuple(children))
            return known[key]

        return build(1)


def _picker(slots: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function that takes these elements out of a sequence, as a tuple."""
    if len(slots) > 1:
        return itemgetter(*slots)
    return lambda values: tuple(values[slot] for slot in slots)

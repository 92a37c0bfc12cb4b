"""Which configs a bundle is made of, and in which order they are worth measuring."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wpk_envs.core import Candidate, DeviceInfo, Operator
from wpk_envs.devices.cuda.builder import Built
from wpk_envs.devices.cuda.bundle import Entry
from wpk_envs.devices.messages import Failure
from wpk_envs.schedules import build_space
from wpk_envs.schedules.sampling import shares, spread


@dataclass(frozen=True)
class Planned:
    """A candidate that is to be built, and the name of its operator."""

    name: str
    candidate: Candidate


def plan(chosen: Mapping[str, Operator], device: DeviceInfo, configs: int, seed: int) -> list[Planned]:
    """Choose configs of every distinct operator, fairly to operators and templates; operators take turns.

    Args:
        chosen: Operators by name; the same one under several names comes once.
        device: What they are built for.
        configs: How many in all; at least one per operator, at most all there are.
        seed: Of every random choice; with a larger ``configs`` those of a smaller one are chosen too.

    Raises:
        UserError: If no template fits an operator.
    """
    names: dict[Operator, str] = {}
    for name, operator in chosen.items():
        names.setdefault(operator, name)
    spaces = [build_space(operator, device) for operator in names]
    counts = shares([space.size for space in spaces], configs)
    chosen_of = [
        [Planned(names[space.operator], space.candidate(vector)) for vector in itertools.islice(spread(space, seed), n)]
        for space, n in zip(spaces, counts)
    ]
    turns = itertools.zip_longest(*chosen_of)
    return [planned for turn in turns for planned in turn if planned is not None]


def entry_of(planned: Planned, built: Built) -> Entry:
    """A built candidate as a bundle keeps it."""
    candidate = planned.candidate
    return Entry(
        name=planned.name,
        operator=candidate.operator,
        template=candidate.template.name,
        template_version=candidate.template.version,
        config=dict(candidate.config),
        candidate=candidate.key,
        tolerance=candidate.template.tolerance,
        executed_flops=candidate.template.executed_flops(candidate.operator, candidate.config),
        program=built.program,
        build_seconds=built.seconds,
    )


def failure_of(planned: Planned, failure: Failure) -> dict[str, Any]:
    """A candidate that did not compile as a bundle keeps it."""
    candidate = planned.candidate
    return {
        "name": planned.name,
        "template": candidate.template.name,
        "config": dict(candidate.config),
        "candidate": candidate.key,
        "error": failure.error,
        "message": failure.message,
    }


def by_value(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries so that the first ones are worth the most.

    Every operator and every template of it takes its turn, in the order in which they come. Kernels that
    spill registers are last: they are hardly ever fast.
    """
    turns: Counter[tuple[str, str]] = Counter()
    ordered = []
    for entry in sorted(entries, key=lambda entry: entry.spills):
        turns[entry.name, entry.template] += 1
        ordered.append((entry.spills, turns[entry.name, entry.template], entry))
    return [entry for _, _, entry in sorted(ordered, key=lambda each: each[:2])]

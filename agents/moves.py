"""Where a search may go from a config: what local search, annealing, TPE and surrogate search share.

Configs of a batch that is being put together count as known: pass them with those that were measured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from wpk_envs.schedules.space import Prefix, ScheduleSpace
from wpk_envs.tuning import TuningProblem

ATTEMPTS = 20
"""Random draws for a config that is new, until the batch at hand stays smaller."""


def draw(problem: TuningProblem, rng: np.random.Generator, count: int) -> list[Prefix]:
    """Up to ``count`` different configs, uniform among those not tried; one at least while one is left."""
    drawn: dict[Prefix, None] = {}
    for _ in range(count * ATTEMPTS):
        vector = problem.sample_untried(rng) if len(drawn) < count else None
        if vector is None:
            break
        drawn[vector] = None
    return list(drawn)


def neighbours(space: ScheduleSpace, rng: np.random.Generator, vector: Prefix) -> list[Prefix]:
    """All configs one knob away, and one of every other template, in random order.

    Those of other templates keep what both templates have and take random options for the rest, repaired.
    """
    found = space.neighbours(vector)
    for template in np.flatnonzero(space.masks[space.root]):
        if template != vector[0]:
            found.append(space.repair([int(template), *_filled(space, rng, vector)[1:]]))
    rng.shuffle(found)
    return found


def mutated(space: ScheduleSpace, rng: np.random.Generator, vector: Prefix, knobs: int) -> Prefix:
    """The config with random options in up to ``knobs`` of its knobs, repaired; it may be the same."""
    used = space.decode(vector)
    positions = [n for n, knob in enumerate(space.encoding.knobs) if knob.name in used]
    changed = list(vector)
    for position in rng.choice(positions, size=min(knobs, len(positions)), replace=False):
        changed[position] = int(rng.integers(len(space.encoding.knobs[position].options)))
    return space.repair(changed)


def nearest_untried(problem: TuningProblem, vector: Sequence[int]) -> Prefix:
    """Like `ScheduleSpace.repair`, but among the configs not tried in this run, while one is left."""
    node, repaired = problem.space.root, ()  # type: tuple[int, Prefix]
    for wanted in vector:
        allowed = np.flatnonzero(problem.mask(repaired, node, exclude_tried=True))
        option = int(allowed[np.argmin(np.abs(allowed - wanted))])
        repaired = (*repaired, option)
        node = problem.space.child(node, option)
    return repaired


def new(vectors: Iterable[Prefix], *known: Collection[Prefix]) -> list[Prefix]:
    """The different ones that none of the collections has, in order."""
    return [vector for vector in dict.fromkeys(vectors) if not any(vector in some for some in known)]


def measured(problem: TuningProblem, vectors: Sequence[Prefix]) -> dict[Prefix, float]:
    """Rewards of the configs that the budget paid for, measured as one batch, in the order of asking."""
    answers = zip(vectors, problem.measure(vectors))
    return {vector: problem.reward(answer) for vector, answer in answers if answer is not None}


def _filled(space: ScheduleSpace, rng: np.random.Generator, vector: Prefix) -> list[int]:
    """The options of the knobs that the config's template has, random ones for those it lacks."""
    used = space.decode(vector)
    return [
        option if knob.name in used else int(rng.integers(len(knob.options)))
        for knob, option in zip(space.encoding.knobs, vector)
    ]

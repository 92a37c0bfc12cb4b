"""What was best on average elsewhere, tried first: the baselines that learning from other operators must beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import Agent
from agents.ga import GeneticAlgorithm, untried
from agents.landscapes import Landscape, landscapes, remaining
from agents.moves import draw
from wpk_envs.errors import UserError, unknown
from wpk_envs.records.library import DEFAULT
from wpk_envs.schedules.space import Prefix
from wpk_envs.tuning import TuningProblem

UNKNOWN = ("operator", "family")
"""What an agent with experience may never know of what it tunes."""


def ranked(among: Sequence[Landscape]) -> np.ndarray:
    """All configs of some landscapes, best first.

    A config's worth is its log speedup relative to the best of its landscape, averaged over the landscapes that have
    it: the logarithm of the mean fraction of the optimum.

    Returns:
        ``uint8[configs, knobs]``.
    """
    vectors = np.concatenate([each.vectors for each in among])
    losses = np.concatenate([each.rewards - each.rewards.max() for each in among])
    configs, place = np.unique(vectors, axis=0, return_inverse=True)
    worth = np.bincount(place.ravel(), losses) / np.bincount(place.ravel())
    return configs[np.argsort(-worth, kind="stable")]


def valid_ones(problem: TuningProblem, ranking: np.ndarray) -> list[Prefix]:
    """Those of a ranking that are in a problem's space, in order."""
    return [vector for vector in map(tuple, ranking.tolist()) if problem.space.is_valid(vector)]


@dataclass
class Experience(Agent):
    """Which recorded operators an agent has learnt from.

    Attributes:
        tables: Tables of the package, or a folder of tables.
        unknown: What it never knows: the ``operator`` that it tunes, or that operator's whole ``family``.
        exclude: More that it must not know: operators by name, or families as ``family/NAME``.
    """

    tables: str = DEFAULT
    unknown: str = "operator"
    exclude: list[str] | None = None

    def __post_init__(self) -> None:
        if self.unknown not in UNKNOWN:
            raise unknown("algo.unknown", self.unknown, UNKNOWN)

    def known(self, problem: TuningProblem) -> list[Prefix]:
        """Configs by how good they were on average, those of the problem's space.

        Raises:
            UserError: If there are no such tables, or they are of another kind of device.
        """
        among = self._landscapes(problem)
        fitting = [each for each in among if each.space.encoding == problem.space.encoding]
        if not fitting:
            raise UserError(
                f"the tables '{self.tables}' are of {among[0].space.device.name}, whose schedules have other knobs "
                f"than those of {problem.space.device.name}; give tables of that kind of device"
            )
        self.knowledge = {
            "tables": self.tables,
            "operators": [each.name for each in fitting],
            "has_seen_operator": False,
        }
        return valid_ones(problem, ranked(fitting))

    def _landscapes(self, problem: TuningProblem) -> list[Landscape]:
        everything, operator = landscapes(self.tables), problem.operator
        alike = {
            each.name
            for each in everything
            if each.operator == operator or (self.unknown == "family" and each.operator.family == operator.family)
        }
        names = remaining({each.name: each.operator for each in everything}, [*(self.exclude or ()), *alike])
        return [each for each in everything if each.name in names]


@dataclass
class Ranking(Experience):
    """Try configs in the order of their mean fraction of the optimum on other operators; random ones after that.

    Attributes:
        batch: Configs measured together.
    """

    name: ClassVar[str] = "ranking"
    batch: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, math.inf, "batch")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Measure batch after batch."""
        rng = np.random.default_rng(seed)
        order = self.known(problem)
        while not problem.done:
            problem.measure(order[: self.batch] or draw(problem, rng, self.batch))
            del order[: self.batch]


@dataclass
class RankingGA(Experience, GeneticAlgorithm):
    """The genetic algorithm whose first population are the configs that were best on average elsewhere."""

    name: ClassVar[str] = "ranking_ga"

    def __post_init__(self) -> None:
        Experience.__post_init__(self)
        GeneticAlgorithm.__post_init__(self)

    def first(self, problem: TuningProblem, rng: np.random.Generator, tried: set[Prefix]) -> list[Prefix | None]:
        """The best of the ranking, and random ones if that has not enough."""
        known: list[Prefix | None] = list(self.known(problem)[: self.population])
        tried.update(vector for vector in known if vector is not None)
        return known + [untried(problem, rng, tried) for _ in range(self.population - len(known))]

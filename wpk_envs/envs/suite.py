"""What an environment of several operators draws from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wpk_envs.errors import UserError
from wpk_envs.tuning import TuningProblem


class Suite:
    """Tuning problems of one device by the names of their operators; every episode is of one of them.

    An environment takes a suite in place of a problem: at every reset an operator is drawn, each as likely as any
    other, and ``info["operator"]`` names it, there and at the end of the episode. Actions and observations are the
    same for all operators of a device kind; which one it is the observation tells by its features.

    Args:
        problems: At least one, each with its own budget and trials.

    Raises:
        UserError: If there is none, or their encodings differ.
    """

    def __init__(self, problems: Mapping[str, TuningProblem]) -> None:
        if not problems:
            raise UserError("a suite needs at least one operator; name some, such as operators=['conv3x3', 'gemm']")
        self.names = tuple(problems)
        self.problems = tuple(problems.values())
        if len({problem.space.encoding for problem in self.problems}) > 1:
            raise UserError("the operators of a suite must have one encoding; take those of one kind of device")

    @staticmethod
    def of(problem: TuningProblem | Suite) -> Suite:
        """The suite itself, or a single problem as one, whose episodes need no name."""
        return problem if isinstance(problem, Suite) else Suite({"": problem})

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Which problem so many episodes are of, ``int64[count]``; of a single one nothing is drawn."""
        if len(self.problems) == 1:
            return np.zeros(count, dtype=np.int64)
        return rng.integers(len(self.problems), size=count)

    def info(self, number: int) -> dict[str, Any]:
        """What an info says of the operator."""
        return {"operator": self.names[number]} if self.names[number] else {}

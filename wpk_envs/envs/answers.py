"""What tuning problems have answered so far, in arrays over all configs of their spaces."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from wpk_envs.core import Measurement
from wpk_envs.envs.formulation import FIGURES
from wpk_envs.envs.tree import Forest
from wpk_envs.schedules.space import Prefix
from wpk_envs.tuning import TuningProblem

Columns = dict[str, tuple[Any, Any]]
"""Infos of several episodes: a name's values, and which of the episodes have it."""


class Answers:
    """Answers by the number of the config in a forest.

    Args:
        problems: What is tuned, one per tree of the forest.
        forest: Numbers the configs.

    Attributes:
        known: Which configs were answered, ``bool[configs]``.
        failed: Which of them with an error.
        rewards: What they are worth, ``float64[configs]``.
        configs: The configs by knob name.
    """

    def __init__(self, problems: Sequence[TuningProblem], forest: Forest) -> None:
        count, vectors = len(forest.vectors), forest.vectors.tolist()
        self._problems = problems
        of = forest.tree[forest.paths[:, 0]].tolist()
        self._numbers = {(tree, *vector): number for number, (tree, vector) in enumerate(zip(of, vectors))}
        self.known = np.zeros(count, dtype=bool)
        self.failed = np.zeros(count, dtype=bool)
        self.rewards = np.zeros(count)
        self.configs = objects([UserDict(problems[tree].space.decode(vector)) for tree, vector in zip(of, vectors)])
        self._texts = {name: objects([""] * count) for name in ("error", "message", "confidence")}
        self._figures = {name: np.full(count, np.nan) for name in FIGURES}

    def add(self, problem: int, vector: Prefix, measurement: Measurement) -> int:
        """Note a problem's answer; the number of its config."""
        number = self._numbers[(problem, *vector)]
        self.known[number] = True
        self.failed[number] = measurement.error is not None
        self.rewards[number] = self._problems[problem].reward(measurement)
        for name, texts in self._texts.items():
            texts[number] = getattr(measurement, name) or ""
        for name, figures in self._figures.items():
            value = getattr(measurement, name)
            figures[number] = np.nan if value is None else value
        return number

    def columns(self, configs: np.ndarray, answered: np.ndarray) -> Columns:
        """Infos of completed configs; where ``answered`` is false there are an empty error and message alone."""
        everywhere = np.ones(len(configs), dtype=bool)
        found: Columns = {}
        for name in ("error", "message"):
            found[name] = np.where(answered, self._texts[name][configs], ""), everywhere
        for name, figures in self._figures.items():
            present = answered & ~np.isnan(figures[configs])
            found[name] = np.where(present, figures[configs], 0.0), present
        predicted = found["predicted_latency_us"][1]
        found["confidence"] = np.where(predicted, self._texts["confidence"][configs], None), predicted
        return found


def objects(values: Sequence[Any]) -> np.ndarray:
    """Any values as an array of one dimension, ``object[values]``."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array

"""A cost model over the knobs of a space: which configs will be fast, learnt from those that were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import ThreadpoolController

from wpk_envs.core import Knob
from wpk_envs.schedules.space import Prefix, ScheduleSpace

ABSENT = -8.0
"""What a knob reads as that the template lacks: less than any value."""


class CostModel:
    """Gradient-boosted trees from knobs to rewards; deterministic, on one thread.

    Args:
        space: What is searched.
        trees: Number of trees.
        learning_rate: Step size from tree to tree.
    """

    def __init__(self, space: ScheduleSpace, trees: int, learning_rate: float) -> None:
        self._features = Features(space)
        self._pools = ThreadpoolController()
        self._trees = HistGradientBoostingRegressor(
            max_iter=trees,
            learning_rate=learning_rate,
            max_leaf_nodes=15,
            min_samples_leaf=3,
            early_stopping=False,
        )

    def fit(self, rewards: Mapping[Prefix, float]) -> None:
        """Learn anew from the rewards of at least one config."""
        with self._pools.limit(limits=1, user_api="openmp"):
            self._trees.fit(self._features(list(rewards)), list(rewards.values()))

    def predict(self, vectors: Sequence[Prefix]) -> np.ndarray:
        """Predicted rewards of at least one config, ``float64[configs]``; `fit` first."""
        with self._pools.limit(limits=1, user_api="openmp"):
            return self._trees.predict(self._features(vectors))

    def ranked(self, vectors: Sequence[Prefix]) -> list[Prefix]:
        """The configs, the best predicted first."""
        if not vectors:
            return []
        return [vectors[index] for index in np.argsort(-self.predict(vectors), kind="stable")]


class Features:
    """Configs as rows of numbers: the template one-hot, every other knob's value on a log scale.

    A knob that the template lacks reads `ABSENT`; NaN would not do, since the trees refuse a column of nothing
    but NaN. Words beside numbers ("all", "none") lie a factor of two beyond the numbers on their side. Of a
    knob of words alone the option's number counts.
    """

    def __init__(self, space: ScheduleSpace) -> None:
        knobs = space.encoding.knobs
        self._templates = len(knobs[0].options)
        self._values = np.full((len(knobs), space.encoding.width), ABSENT)
        self._has = np.zeros((self._templates, len(knobs)), dtype=bool)
        for position, knob in enumerate(knobs):
            self._values[position, : len(knob.options)] = scale(knob)
        for number, name in enumerate(knobs[0].options):
            template = space.templates.get(str(name))
            self._has[number] = [template is not None and knob.name in template.knobs for knob in knobs]

    def __call__(self, vectors: Sequence[Prefix]) -> np.ndarray:
        """Rows of the configs, ``float64[configs, templates + knobs - 1]``."""
        options = np.array(vectors)
        template = options[:, 0]
        values = self._values[np.arange(options.shape[1]), options]
        values = np.where(self._has[template], values, ABSENT)[:, 1:]
        return np.hstack([np.eye(self._templates)[template], values])


def scale(knob: Knob) -> list[float]:
    """Every option of a knob as a number, base-2 logarithms of numbers."""
    logs = [math.log2(option) if isinstance(option, int) and option > 0 else None for option in knob.options]
    numbers = [log for log in logs if log is not None]
    if not numbers:
        return [float(number) for number in range(len(logs))]
    first = logs.index(numbers[0])
    beside = [min(numbers) - 1 if position < first else max(numbers) + 1 for position in range(len(logs))]
    return [other if log is None else log for log, other in zip(logs, beside)]

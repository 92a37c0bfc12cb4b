"""Which knob matters: how much worse a cost model predicts when one knob's values are shuffled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.cost_model import CostModel
from wpk_envs.schedules.space import Prefix, ScheduleSpace

TREES, LEARNING_RATE = 120, 0.1
HELD_OUT = 0.25
"""Share of the configs that the model does not learn from; importance and R2 are of these."""

REPEATS = 8
SEED = 0
LEAST = 40
"""Configs below which nothing is said."""


@dataclass(frozen=True)
class KnobImportance:
    """What shuffling one knob costs.

    Attributes:
        name: The knob.
        doc: What it is.
        drop: Mean loss of R2, 0 for a knob that tells nothing.
        spread: Standard deviation of the loss over the shuffles.
    """

    name: str
    doc: str
    drop: float
    spread: float


@dataclass(frozen=True)
class Importances:
    """The knobs of a set of configs.

    Attributes:
        knobs: Those with more than one value, the most important first.
        r2: Share of the variance of the log speedup that the model explains on configs that it has not seen.
        configs: How many there were.
    """

    knobs: tuple[KnobImportance, ...]
    r2: float
    configs: int

    def of(self, name: str) -> KnobImportance | None:
        """The importance of one knob; none if it has one value only."""
        return next((knob for knob in self.knobs if knob.name == name), None)


def importances(space: ScheduleSpace, rewards: Mapping[Prefix, float]) -> Importances | None:
    """Permutation importance (Breiman 2001) by scikit-learn, on held-out configs, always with the same seed.

    A knob is shuffled as a whole, the template like any other. Shuffling makes configs that may not exist, and knobs
    that go together share their importance.

    Args:
        space: What the configs belong to.
        rewards: Log speedup by config.

    Returns:
        None for less than `LEAST` configs, or if they are all alike.
    """
    from sklearn.inspection import permutation_importance
    from sklearn.metrics import r2_score
    from sklearn.model_selection import train_test_split

    vectors, values = np.array(list(rewards)), np.array(list(rewards.values()))
    varying = [place for place in range(space.length) if len(rewards) and np.ptp(vectors[:, place])]
    if len(rewards) < LEAST or not varying or not np.ptp(values):
        return None
    learnt, held_out = train_test_split(np.arange(len(values)), test_size=HELD_OUT, random_state=SEED)
    model = CostModel(space, TREES, LEARNING_RATE)
    model.fit({tuple(vectors[row].tolist()): values[row] for row in learnt})

    def score(fitted: CostModel, knobs: np.ndarray, wanted: np.ndarray) -> float:
        whole = np.tile(vectors[0], (len(knobs), 1))
        whole[:, varying] = knobs
        return float(r2_score(wanted, fitted.predict(list(map(tuple, whole)))))

    seen = vectors[held_out][:, varying]
    found = permutation_importance(
        model, seen, values[held_out], scoring=score, n_repeats=REPEATS, random_state=SEED, n_jobs=1
    )
    knobs = [
        KnobImportance(space.encoding.knobs[place].name, space.encoding.knobs[place].doc, float(drop), float(spread))
        for place, drop, spread in zip(varying, found.importances_mean, found.importances_std)
    ]
    ordered = sorted(knobs, key=lambda knob: -knob.drop)
    return Importances(tuple(ordered), score(model, seen, values[held_out]), len(values))

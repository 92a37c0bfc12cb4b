"""Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; Optuna: Akiba et al., KDD 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from agents.base import Agent
from agents.moves import measured, nearest_untried
from wpk_envs.tuning import TuningProblem


@dataclass
class TPE(Agent):
    """Ask Optuna's TPESampler for a batch, repair what it suggests, tell it what was measured.

    Parameters are conditional on the template: each template has its own, one per knob that it can vary.
    Optuna's distributions must not change from trial to trial, so masks, which depend on earlier choices,
    cannot bound them. A suggestion therefore is repaired, knob by knob, to the nearest allowed option below
    which something is untried, and the sampler is told the repaired config's reward: it learns about what
    was measured only, and no config is asked for twice.

    Attributes:
        batch: Configs measured together; the sampler takes those without a result for bad ones, which
            spreads a batch (constant liar).
        startup: Random trials before the estimator is used.
        candidates: Draws from the estimator of good configs, of which the most promising is suggested.
        multivariate: Whether knobs are estimated jointly.
    """

    name: ClassVar[str] = "tpe"
    batch: int = 8
    startup: int = 10
    candidates: int = 24
    multivariate: bool = True

    def __post_init__(self) -> None:
        self.check(1, math.inf, "batch", "startup", "candidates")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Ask, measure, tell, until the budget is spent."""
        # Every program reads the settings above; importing Optuna takes time that only this one must spend.
        from agents.optuna_study import FAIL, Parameters, new_study, quiet

        parameters = Parameters(problem.space)
        with quiet():
            study = new_study(parameters, seed, self.startup, self.candidates, self.multivariate)
            while not problem.done:
                asked = [study.ask() for _ in range(self.batch)]
                wanted = [nearest_untried(problem, parameters.suggest(trial)) for trial in asked]
                rewards = measured(problem, list(dict.fromkeys(wanted)))
                for trial in asked:
                    study.tell(trial, state=FAIL)
                study.add_trials(parameters.result(vector, reward) for vector, reward in rewards.items())

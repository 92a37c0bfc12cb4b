"""What every agent must do; inherit this suite to test a new one."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

import agents
from agents import TuningResult
from tests.synthetic import SyntheticDevice, medium_problem, tiny_problem, tiny_space
from wpk_envs.tuning import TuningProblem


class AgentConformance:
    """Set `name`, and `settings` where the defaults are too slow for a test."""

    name: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}

    def tune(self, problem: TuningProblem, seed: int = 0) -> TuningResult:
        return agents.get(self.name, **self.settings).tune(problem, seed)

    def vectors(self, result: TuningResult) -> list[tuple[int, ...]]:
        return [trial.vector for trial in result.trials]

    @pytest.mark.parametrize("trials", [1, 7, 30])
    def test_spends_exactly_the_budget(self, trials: int) -> None:
        problem = medium_problem(trials)
        result = self.tune(problem)
        assert len(result.trials) == trials
        assert result.stop_reason == "trials"
        assert len(set(self.vectors(result))) == trials
        assert len(problem.device.measured) == trials

    def test_ends_when_a_tiny_space_is_exhausted(self) -> None:
        result = self.tune(tiny_problem(trials=1000))
        assert result.stop_reason == "exhausted"
        assert sorted(self.vectors(result)) == list(tiny_space())

    def test_returns_the_best_of_its_trials(self) -> None:
        result = self.tune(medium_problem(20))
        speedups = [trial.measurement.speedup for trial in result.trials]
        assert result.best is not None
        assert result.best.measurement.speedup == max(speedups)
        assert [point.gain for point in result.curve] == [max(speedups[: n + 1]) for n in range(20)]
        assert [point.trial for point in result.curve] == list(range(1, 21))

    def test_repeats_itself_with_the_same_seed_only(self) -> None:
        first, again, other = (self.tune(medium_problem(30), seed) for seed in (3, 3, 4))
        assert self.vectors(first) == self.vectors(again)
        assert self.vectors(first) != self.vectors(other)

    def test_goes_on_from_a_journal_exactly_where_it_was(self) -> None:
        whole = self.tune(medium_problem(30), seed=1)
        device = SyntheticDevice()
        resumed = self.tune(medium_problem(30, device=device, journal=whole.trials[:13]), seed=1)
        assert self.vectors(resumed) == self.vectors(whole)
        assert len(device.measured) == 30 - 13

    def test_goes_on_after_failures(self) -> None:
        problem = medium_problem(30, device=SyntheticDevice(error_rate=0.6))
        result = self.tune(problem)
        assert len(result.trials) == 30
        assert result.best is None or result.best.measurement.error is None
        assert 0 < sum(problem.errors.values()) < 30

    def test_goes_on_when_everything_fails(self) -> None:
        result = self.tune(medium_problem(20, device=SyntheticDevice(error_rate=1.0)))
        assert len(result.trials) == 20
        assert result.best is None

    def test_leaves_global_random_state_alone(self) -> None:
        import random

        import numpy as np

        random.seed(5)
        np.random.seed(5)
        expected = random.random(), np.random.random()
        random.seed(5)
        np.random.seed(5)
        self.tune(medium_problem(10))
        assert (random.random(), np.random.random()) == expected

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.synthetic import SyntheticDevice, medium_problem, tiny_problem, tiny_space
from wpk_envs.core import SPEEDUP_FLOOR, Candidate, DeviceInfo, Measurement
from wpk_envs.errors import UserError
from wpk_envs.schedules.space import Prefix
from wpk_envs.tuning import REQUESTS_PER_TRIAL, Budget, Trial, TuningProblem


class MemoryStore:
    """Records in a dict."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Measurement] = {}
        self.asked = 0

    def get(self, candidate: Candidate, device: DeviceInfo) -> Measurement | None:
        self.asked += 1
        return self.records.get((candidate.key, device.fingerprint))

    def put(self, candidate: Candidate, device: DeviceInfo, measurement: Measurement) -> None:
        self.records[candidate.key, device.fingerprint] = measurement


def vectors(count: int) -> list[Prefix]:
    space = tiny_space()
    return [space.unrank(rank) for rank in range(count)]


INVALID = (0, 4, 2, 0)


# --- accounting


def test_revisits_cost_no_trial() -> None:
    problem = tiny_problem()
    first = problem.measure(vectors(3))
    again = problem.measure(vectors(3) + vectors(1))
    assert again == [*first, first[0]]
    assert (len(problem.trials), problem.requests, len(problem.device.measured)) == (3, 7, 3)


def test_invalid_requests_are_counted_apart() -> None:
    problem = tiny_problem()
    answers = problem.measure([INVALID, *vectors(1), INVALID, (0, 3)])
    assert [answer.error for answer in answers] == ["invalid", None, "invalid", "invalid"]
    assert "at most 16 unrolled steps" in answers[0].message
    assert (problem.requests_invalid, problem.requests, len(problem.trials)) == (3, 4, 1)
    assert problem.errors == {}
    assert len(problem.device.measured) == 1


def test_trials_know_their_config_and_number() -> None:
    seen: list[Trial] = []
    problem = tiny_problem(on_trial=seen.append)
    problem.measure(vectors(2))
    problem.measure(vectors(4))
    assert seen == problem.trials
    assert [trial.number for trial in seen] == [1, 2, 3, 4]
    assert [trial.vector for trial in seen] == vectors(4)
    assert [trial.config for trial in seen] == [problem.space.decode(vector) for vector in vectors(4)]
    assert not any(trial.reused for trial in seen)
    assert sorted(trial.seconds for trial in seen) == [trial.seconds for trial in seen]


def test_the_best_is_the_fastest_that_succeeded() -> None:
    problem = medium_problem(200, device=SyntheticDevice(error_rate=0.4))
    problem.measure([problem.space.unrank(5 * i) for i in range(100)])
    succeeded = [trial for trial in problem.trials if trial.measurement.error is None]
    assert problem.best == max(succeeded, key=lambda trial: trial.measurement.speedup)
    assert sum(problem.errors.values()) == 100 - len(succeeded)
    assert set(problem.errors) == {"compile", "timeout", "crash", "wrong_result"}


def test_without_success_there_is_no_best() -> None:
    problem = tiny_problem(device=SyntheticDevice(error_rate=1.0))
    problem.measure(vectors(5))
    assert problem.best is None


# --- stopping


def test_budget_is_never_exceeded_within_a_batch() -> None:
    problem = tiny_problem(trials=3)
    answers = problem.measure([INVALID, *vectors(5)])
    assert [answer is None for answer in answers] == [False, False, False, False, True, True]
    assert (len(problem.trials), problem.stop_reason) == (3, "trials")
    assert problem.measure(vectors(4))[:3] == answers[1:4]
    assert len(problem.device.measured) == 3


def test_stops_when_exhausted() -> None:
    problem = tiny_problem(trials=None)
    problem.measure(list(problem.space))
    assert problem.stop_reason == "exhausted"
    assert problem.sample_untried(np.random.default_rng(0)) is None


def test_stops_after_too_many_requests() -> None:
    problem = tiny_problem(trials=2)
    for _ in range(REQUESTS_PER_TRIAL):
        assert not problem.done
        problem.measure([*vectors(1), INVALID])
    assert problem.stop_reason == "requests"
    assert problem.measure(vectors(2)[1:]) == [None]


def test_stops_when_told() -> None:
    problem = tiny_problem()
    assert problem.stop_reason is None
    problem.finish()
    assert (problem.done, problem.stop_reason) == (True, "finished")


def test_recorded_seconds_are_charged() -> None:
    store = MemoryStore()
    tiny_problem(store=store, device=SyntheticDevice(seconds=10.0)).measure(vectors(4))
    space = tiny_space()
    problem = TuningProblem(space.operator, SyntheticDevice(), space, store=store, budget=Budget(None, seconds=18.0))
    problem.measure(vectors(3))
    assert 15.0 <= problem.seconds < 18.0
    assert not problem.done
    problem.measure(vectors(4))
    assert problem.stop_reason == "seconds"
    assert problem.device.measured == []


@pytest.mark.parametrize("budget", [{"trials": 0}, {"trials": -1}, {"seconds": 0}, {"seconds": math.nan}])
def test_empty_budgets_are_refused(budget: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"budget.{next(iter(budget))} must be greater than 0"):
        Budget(**budget)


# --- store and journal


def test_records_of_earlier_runs_answer_and_still_count() -> None:
    store = MemoryStore()
    tiny_problem(store=store).measure(vectors(3))
    problem = tiny_problem(trials=5, store=store)
    problem.measure(vectors(10))
    assert [trial.reused for trial in problem.trials] == [True] * 3 + [False] * 2
    assert len(problem.device.measured) == 2
    assert problem.stop_reason == "trials"
    assert len(store.records) == 5


def test_records_are_left_alone_without_reuse() -> None:
    store = MemoryStore()
    tiny_problem(store=store).measure(vectors(3))
    asked = store.asked
    problem = tiny_problem(store=store, reuse=False)
    problem.measure(vectors(3))
    assert len(problem.device.measured) == 3
    assert store.asked == asked


def test_a_journal_answers_first() -> None:
    before = tiny_problem()
    before.measure(vectors(4))
    store = MemoryStore()
    problem = tiny_problem(journal=before.trials, store=store)
    answers = problem.measure(vectors(6))
    assert answers[:4] == [trial.measurement for trial in before.trials]
    assert len(problem.device.measured) == 2
    assert [trial.reused for trial in problem.trials] == [False] * 6


def test_an_interrupted_batch_keeps_what_was_finished() -> None:
    class Interrupted(SyntheticDevice):
        def measure(self, candidates, on_result=None, repeats=None):
            on_result(0, self._answer(candidates[0]))
            raise KeyboardInterrupt

    store = MemoryStore()
    problem = tiny_problem(device=Interrupted(), store=store)
    with pytest.raises(KeyboardInterrupt):
        problem.measure(vectors(3))
    assert [trial.vector for trial in problem.trials] == vectors(1)
    assert len(store.records) == 1


# --- masks


def test_masks_without_replacement_match_what_is_left() -> None:
    rng = np.random.default_rng(0)
    problem = tiny_problem(trials=None)
    left = set(problem.space)
    for vector in rng.permutation(list(problem.space)).tolist()[:-1]:
        problem.measure([vector])
        left.discard(tuple(vector))
        for prefix in {vector[:depth] for vector in left for depth in range(problem.space.length)}:
            expected = {other[len(prefix)] for other in left if other[: len(prefix)] == prefix}
            assert set(np.flatnonzero(problem.mask(prefix, exclude_tried=True))) == expected


def test_masks_are_never_all_false_on_a_valid_prefix() -> None:
    problem = tiny_problem(trials=None)
    problem.measure(list(problem.space))
    assert problem.mask((), exclude_tried=True).tolist() == problem.mask(()).tolist()
    assert not problem.mask((2,)).any()


def test_sample_untried_is_uniform_over_what_is_left() -> None:
    problem = tiny_problem(trials=None)
    problem.measure(vectors(11))
    rng = np.random.default_rng(0)
    counts = {vector: 0 for vector in problem.space if vector not in vectors(11)}
    for _ in range(1000):
        counts[problem.sample_untried(rng)] += 1
    assert min(counts.values()) > 60
    assert max(counts.values()) < 145


class TestReward:
    def test_is_the_measurements_own_where_there_is_a_baseline(self):
        problem = tiny_problem()
        problem.measure([problem.space.unrank(index) for index in range(4)])
        assert [problem.reward(trial.measurement) for trial in problem.trials] == [
            trial.measurement.reward for trial in problem.trials
        ]

    def test_without_one_latencies_are_compared_with_the_first(self):
        problem = tiny_problem()
        assert problem.reward(Measurement(samples_us=(2.0,))) == math.log(SPEEDUP_FLOOR)
        problem.device.measure = lambda candidates, on_result: [
            on_result(position, Measurement(error="crash") if position == 0 else Measurement(samples_us=(latency,)))
            for position, latency in enumerate((0.0, 4.0, 2.0, 8.0, 1000.0))
        ]
        problem.measure([problem.space.unrank(index) for index in range(5)])
        rewards = [problem.reward(trial.measurement) for trial in problem.trials]
        assert problem.rewards == rewards
        assert rewards == pytest.approx(
            [math.log(SPEEDUP_FLOOR), 0, math.log(2), -math.log(2), math.log(SPEEDUP_FLOOR)]
        )
        assert problem.best is problem.trials[2]


# --- predictions


def predicted(latency_us: float, baseline_us: float | None = None) -> Measurement:
    return Measurement(predicted_latency_us=latency_us, predicted_baseline_us=baseline_us)


def test_a_prediction_is_worth_its_predicted_speedup_and_is_no_measurement() -> None:
    prediction = predicted(2.0, 5.0)
    assert (prediction.predicted_speedup, prediction.gain, prediction.cost_us) == (2.5, 2.5, 2.0)
    assert prediction.reward == pytest.approx(math.log(2.5))
    assert (prediction.speedup, prediction.latency_us, prediction.samples_us) == (None, None, ())
    assert predicted(100.0, 1.0).reward == pytest.approx(math.log(SPEEDUP_FLOOR))


def test_a_measurement_is_worth_its_speedup_and_has_nothing_predicted() -> None:
    measured = Measurement(samples_us=(2.0,), baseline_us=(3.0,))
    assert (measured.gain, measured.cost_us, measured.predicted_speedup) == (1.5, 2.0, None)
    failed = Measurement(error="crash")
    assert (failed.gain, failed.cost_us, failed.reward) == (None, None, math.log(SPEEDUP_FLOOR))


@pytest.mark.parametrize("other", [{"samples_us": (1.0,)}, {"error": "crash"}])
def test_a_predicted_baseline_stands_beside_a_prediction_only(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="beside a prediction only"):
        Measurement(predicted_baseline_us=2.0, **other)


def test_without_a_predicted_baseline_the_search_goes_by_predicted_latency() -> None:
    class Predicting(SyntheticDevice):
        def _answer(self, candidate: Candidate) -> Measurement:
            return predicted(self.baseline_us / self.speedup(candidate.config))

    problem = tiny_problem(device=Predicting())
    answers = [answer for answer in problem.measure(vectors(6)) if answer is not None]
    assert problem.reward(answers[0]) == 0.0
    assert problem.best is not None
    assert problem.best.measurement.cost_us == min(answer.cost_us or math.inf for answer in answers)

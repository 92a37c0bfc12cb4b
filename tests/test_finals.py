"""The end of a run, on the synthetic device."""

from experiments import finals
from tests.synthetic import tiny_problem
from tests.test_tuning import MemoryStore


def test_the_winner_is_among_the_best_trials_and_every_final_is_kept() -> None:
    store = MemoryStore()
    problem = tiny_problem(store=store)
    problem.measure([problem.space.unrank(rank) for rank in range(6)])
    before = len(problem.device.measured)
    final = finals.remeasure(problem)
    assert final is not None
    best = sorted((t.measurement.reward for t in problem.trials if t.measurement.error is None), reverse=True)
    assert final.trial.measurement.reward >= best[min(finals.FINALISTS, len(best)) - 1]
    assert len(problem.device.measured) == before + min(finals.FINALISTS, len(best)) + 1
    assert store.get(final.candidate, problem.device.info) is final.measurement


def test_without_a_working_schedule_there_is_no_winner() -> None:
    problem = tiny_problem()
    assert finals.remeasure(problem) is None
    assert finals.unrepeated(problem) is None


def test_the_interval_holds_the_median() -> None:
    samples = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02]
    low, high = finals.median_interval(samples)
    assert low < 1.01 < high
    assert finals.median_interval([2.0, 2.0]) == (2.0, 2.0)


def test_ratios_pair_by_pair_and_their_geometric_mean() -> None:
    problem = tiny_problem()
    (measurement,) = problem.measure([problem.space.unrank(0)])
    assert measurement is not None
    assert len(finals.ratios(measurement)) == len(measurement.samples_us)
    assert finals.geomean([1.0, 4.0]) == 2.0
    assert finals.geomean([]) is None

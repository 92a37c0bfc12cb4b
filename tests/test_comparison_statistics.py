"""Scores and statistics of a comparison, against values worked out by hand and SciPy's own."""

import numpy as np
import pytest
from scipy import stats

from experiments.comparison import statistics
from experiments.comparison.cells import Cell, Improvement, Run, packed, unpacked
from experiments.comparison.scores import Scores, best_known
from experiments.comparison.standings import ordered, standings


def run(algo, op, seed, *steps, trials=8, stop_reason="trials"):
    """A run whose best so far rises at (trial, gain), a second for each trial."""
    improvements = tuple(Improvement(trial, 10.0 * trial, gain) for trial, gain in steps)
    return Run(Cell(algo, op, seed), improvements, trials, 10.0 * trials, stop_reason, {}, 0, None, "", 0.1)


def scores_of(*runs, algos=("a",), ops=("x",), seeds=2, known=2.0):
    return Scores(algos, ops, seeds, {each.cell: each for each in runs}, dict.fromkeys(ops, known))


class TestScores:
    def test_a_curve_is_read_at_trials_and_at_seconds(self):
        scores = scores_of(run("a", "x", 0, (2, 1.0), (5, 1.9)), seeds=1)
        np.testing.assert_allclose(scores.at_trials([1, 2, 4, 5, 100])[0, 0, 0], [0, 0.5, 0.5, 0.95, 0.95])
        np.testing.assert_allclose(scores.at_seconds([19.9, 20, 50])[0, 0, 0], [0, 0.5, 0.95])

    def test_the_time_to_a_share_is_that_of_the_step_that_reaches_it(self):
        scores = scores_of(run("a", "x", 0, (2, 1.0), (5, 1.9)), run("a", "x", 1, (1, 1.0)))
        assert scores.trials_to(0.95)[0, 0].tolist() == [5, np.inf]
        assert scores.seconds_to(0.5)[0, 0].tolist() == [20, 10]

    def test_runs_that_are_missing_are_nan_and_counted(self):
        scores = scores_of(run("a", "x", 1, (1, 1.0)))
        assert np.isnan(scores.at_trials([1])[0, 0, 0, 0])
        assert scores.missing("a") == 1

    def test_seconds_are_reported_while_half_of_every_agents_runs_still_search(self):
        slow, fast = run("a", "x", 0, (1, 1.0), trials=60), run("b", "x", 0, (1, 1.0), trials=3)
        assert scores_of(slow, fast, algos=("a", "b"), seeds=1).seconds_points() == (1, 2, 5, 10, 20, 30)
        through = run("b", "x", 0, (1, 1.0), trials=3, stop_reason="exhausted")
        assert scores_of(slow, through, algos=("a", "b"), seeds=1).seconds_points()[-1] == 600

    def test_the_best_known_is_the_recorded_one_or_that_of_the_best_run(self):
        runs = [run("a", "x", 0, (1, 1.0), (2, 3.0)), run("a", "y", 0, (1, 5.0)), run("a", "y", 1, (1, 4.0))]
        assert best_known({"x": 3.5, "y": None, "z": None}, runs) == {"x": 3.5, "y": 5.0, "z": 0.0}

    def test_tried_configs_come_back_from_text(self):
        vectors = [(0, 3, 12, 1), (1, 0, 0, 255)]
        text = packed(vectors)
        assert unpacked(text, 2, 4) == vectors
        assert unpacked(packed([]), 0, 4) == []
        for damaged, count in ((text[:-3], 2), (text[:-8], 2), (text, 1), (text, 3), ("AAAA", 2)):
            with pytest.raises(ValueError, match=r"padding|base64|vectors|compress"):
                unpacked(damaged, count, 4)

    def test_a_run_comes_back_from_its_line(self):
        before = run("a", "x", 3, (1, 1.0), (7, 1.5))
        assert Run.from_dict(before.to_dict()) == before


class TestStatistics:
    def test_iqm_cuts_a_quarter_at_each_end_of_all_runs(self):
        scores = np.array([[0.0, 0.2, 0.4, 0.6], [0.8, 0.9, 1.0, 0.1]])[..., None]
        estimate = statistics.iqm(scores)
        assert estimate.value[0] == pytest.approx((0.2 + 0.4 + 0.6 + 0.8) / 4)
        assert estimate.low[0] < estimate.value[0] < estimate.high[0]

    def test_the_bootstrap_resamples_each_operator_by_itself(self):
        apart = np.array([[0.1] * 4, [0.9] * 4])[..., None]  # all of the spread is between operators
        estimate = statistics.iqm(apart)
        assert (estimate.low[0], estimate.high[0]) == (0.5, 0.5)

    def test_the_interval_of_one_operator_is_that_of_a_plain_bootstrap(self):
        sample = np.random.default_rng(1).normal(0.7, 0.1, 20)
        plain = stats.bootstrap(
            (sample,), lambda x, axis: stats.trim_mean(x, 0.25, axis), n_resamples=20000, method="percentile", rng=1
        ).confidence_interval
        ours = statistics.iqm(sample[None, :, None], 20000)
        assert ours.low[0] == pytest.approx(plain.low, abs=0.004)
        assert ours.high[0] == pytest.approx(plain.high, abs=0.004)

    def test_improvement_is_the_mann_whitney_statistic_averaged_over_operators(self):
        rng = np.random.default_rng(2)
        first, second = rng.integers(0, 6, (3, 7)) / 5, rng.integers(0, 6, (3, 7)) / 5
        expected = np.mean([stats.mannwhitneyu(a, b).statistic / 49 for a, b in zip(first, second)])
        estimate = statistics.improvement(first, second)
        assert estimate.value[0] == pytest.approx(expected)
        assert estimate.low[0] < expected < estimate.high[0]

    def test_improvement_of_equals_is_one_half(self):
        same = np.full((2, 5), 0.7)
        estimate = statistics.improvement(same, same)
        assert (estimate.value[0], estimate.low[0], estimate.high[0]) == (0.5, 0.5, 0.5)

    def test_profiles_count_runs_that_reach_a_threshold(self):
        scores = np.array([[0.5, 0.9], [0.95, 1.0]])
        assert statistics.share_reaching(scores, [0.5, 0.9, 0.96]).value.tolist() == [1.0, 0.75, 0.25]

    def test_missing_runs_are_left_out(self):
        scores = np.array([[0.2, 0.4, np.nan], [np.nan] * 3])
        assert statistics.iqm(scores[..., None]).value[0] == pytest.approx(0.3)
        assert statistics.share_reaching(scores, [0.3]).value[0] == 0.5
        assert statistics.improvement(scores, np.array([[0.3] * 3] * 2)).value[0] == 0.5
        assert np.isnan(statistics.iqm(np.full((2, 3, 4), np.nan)).value).all()

    def test_one_seed_gives_no_interval(self):
        estimate = statistics.iqm(np.array([[0.2], [0.4]])[..., None])
        assert estimate.value[0] == pytest.approx(0.3)
        assert np.isnan([estimate.low[0], estimate.high[0]]).all()

    def test_ranks_are_averaged_over_operators_and_ties_shared(self):
        scores = np.array([[0.9, 0.9, 0.8], [0.5, 0.9, 0.7], [0.1, 0.1, 0.1]])
        ranks, p_value = statistics.mean_ranks(scores)
        np.testing.assert_allclose(ranks, [3.5 / 3, (2 + 1.5 + 2) / 3, 3])
        assert p_value == pytest.approx(stats.friedmanchisquare(*scores).pvalue)
        assert statistics.mean_ranks(scores[:2])[1] is None

    def test_a_median_that_is_not_reached_is_none(self):
        assert statistics.median(np.array([3.0, 5.0, np.inf, np.nan])) == 5.0
        assert statistics.median(np.array([3.0, np.inf])) is None
        assert statistics.median(np.array([np.nan])) is None


class TestStandings:
    @pytest.fixture
    def found(self):
        good = [run("good", op, seed, (1, 1.0), (3 + seed, 2.0)) for op in "xy" for seed in range(3)]
        bad = [run("bad", op, seed, (1, 0.5), (8, 0.8 + seed / 10)) for op in "xy" for seed in range(3)]
        return standings(scores_of(*good, *bad, algos=("bad", "good"), ops=("x", "y"), seeds=3), (4, 8))

    def test_agents(self, found):
        good, bad = found["agents"]["good"], found["agents"]["bad"]
        assert list(good) == ["4", "8"]
        assert good["8"] == {"iqm": 1.0, "low": 1.0, "high": 1.0, "trials_to_95": 4.0, "tied_with_best": True}
        assert bad["8"]["iqm"] == pytest.approx(0.45)
        assert (bad["8"]["trials_to_95"], bad["8"]["tied_with_best"]) == (None, False)
        assert ordered(found["agents"]) == ["good", "bad"]

    def test_agents_that_read_the_same_are_tied(self):
        best = [run("best", "x", seed, (1, 2.0)) for seed in range(3)]
        close = [run("close", "x", seed, (1, 1.9995)) for seed in range(3)]
        less = [run("less", "x", seed, (1, 1.99)) for seed in range(3)]
        scores = scores_of(*best, *close, *less, algos=("less", "close", "best"), seeds=3)
        tied = {algo: figures["8"]["tied_with_best"] for algo, figures in standings(scores, (8,))["agents"].items()}
        assert tied == {"best": True, "close": True, "less": False}

    def test_within_a_smaller_budget_the_median_may_not_be_reached(self, found):
        assert found["agents"]["good"]["4"]["trials_to_95"] == 4.0
        late = standings(scores_of(run("a", "x", 0, (3, 2.0)), run("a", "x", 1, (6, 2.0))), (4, 8))["agents"]["a"]
        assert (late["4"]["trials_to_95"], late["8"]["trials_to_95"]) == (None, 4.5)

    def test_pairs_mirror_each_other(self, found):
        assert found["improvement"]["8"]["good"]["bad"] == {"probability": 1.0, "low": 1.0, "high": 1.0}
        assert found["improvement"]["8"]["bad"]["good"] == {"probability": 0.0, "low": 0.0, "high": 0.0}

    def test_operators_ranks_profiles_and_seconds(self, found):
        assert found["operators"]["x"]["best_known_speedup"] == 2.0
        assert found["operators"]["x"]["agents"]["good"]["iqm"] == {"4": pytest.approx(2.5 / 3), "8": 1.0}
        assert found["ranks"]["8"] == {"mean_rank": {"bad": 2.0, "good": 1.0}, "friedman_p": None}
        assert found["profiles"]["share_reaching"]["good"]["0.99"]["share"] == 1.0
        assert found["over_seconds"]["good"]["60"]["seconds_to_95"] == 40.0
        assert list(found["over_seconds"]["bad"])[-1] == "60"  # of 80 seconds that the runs took

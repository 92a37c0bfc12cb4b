"""The parts of a report: axes, curves, knob importance and maps of schedule spaces."""

import math

import numpy as np
import pytest

from experiments.reporting import importance
from experiments.reporting.charts import Axis, Chart, Histogram, Line, Styles
from experiments.reporting.collect import command
from experiments.reporting.landscape import NEAR, landscapes_of
from experiments.reporting.page import breakable, latency
from experiments.reporting.provenance import sheets_of
from experiments.reporting.standings import standings_of
from tests.recorded_tables import GEMM, NAMES, OPERATOR, make_folder
from tests.report_folders import run_folder
from tests.synthetic import INFO
from wpk_envs.records.library import TableFolder
from wpk_envs.schedules import build_space


@pytest.fixture(scope="module")
def space():
    return build_space(OPERATOR, INFO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return TableFolder(make_folder(tmp_path_factory.mktemp("tables"), elites=2))


@pytest.fixture(scope="module")
def maps(folder):
    found, notes = landscapes_of(folder)
    assert notes == []
    return {each.name: each for each in found}


class TestCharts:
    def test_axes_place_values(self):
        assert [Axis(0, 10, 100, 200)(value) for value in (0, 5, 10, 99)] == [100, 150, 200, 200]
        assert Axis(1, 256, 0, 80, base=2)(16) == pytest.approx(40)

    @pytest.mark.parametrize(
        ("axis", "labels"),
        [
            (Axis(0, 3.4, 0, 1, unit="x"), ["0x", "1x", "2x", "3x"]),
            (Axis(1, 256, 0, 1, base=2), ["1", "2", "4", "8", "16", "32", "64", "128", "256"][::2]),
            (Axis(0.4, 3, 0, 1, base=10), ["0.5", "1", "2"]),
        ],
    )
    def test_ticks_are_round_and_not_many(self, axis, labels):
        assert [label for _, label in axis.ticks] == labels

    def test_a_step_holds_until_the_next(self):
        chart = Chart("title", "x", "y", [Line("a", 0, [(0, 1), (2, 3)], steps=True)], y_range=(0, 3))
        assert chart.path(chart.lines[0]).count("H") == chart.path(chart.lines[0]).count("V") == 1

    def test_names_keep_their_style_and_share_an_entry(self):
        styles = Styles()
        numbers = [styles[name] for name in ("ga", "ppo", "ga")]
        assert numbers == [0, 1, 0]
        lines = [Line(name, styles[name], [(0, 1)]) for name in ("ga", "ppo", "ga")]
        assert [line.name for line in Chart("title", "x", "y", lines).legend] == ["ga", "ppo"]

    def test_bars_of_a_histogram(self):
        bars = Histogram([1, 2, 4, 8], [0, 4, 2]).bars
        assert [height for _, _, height in bars] == [64, 32]


@pytest.mark.parametrize(("value", "text"), [(0.5849, "0.585"), (24.93, "24.9"), (1399.2, "1,399"), (None, "-")])
def test_latencies_have_three_digits(value, text):
    assert latency(value) == text


def test_names_break_after_underscores_and_are_escaped():
    assert breakable("ppo_<b>") == "ppo_<wbr>&lt;b&gt;"


def test_agents_that_print_alike_are_not_told_apart():
    figures = {"a": (1.0, 0.99998, 1.0), "b": (0.9997, 0.9994, 0.9998), "c": (0.997, 0.996, 0.9979)}
    agents = {name: {"8": dict(zip(("iqm", "low", "high"), each))} for name, each in figures.items()}
    rows = standings_of({"agents": agents}, ["8"], Styles())
    assert [(row.agent, row.figures["8"]["best"], row.figures["8"]["tied"]) for row in rows] == [
        ("a", True, True),
        ("b", False, True),
        ("c", False, False),
    ]


def test_commands_say_what_and_not_where(tmp_path):
    assert command(run_folder(tmp_path), "run") == "python -m experiments.run op=gemm algo=random"
    assert command(tmp_path / "nowhere", "run") is None


class TestImportance:
    def test_finds_the_knobs_that_decide(self, space):
        rng = np.random.default_rng(0)
        effect = {"tile_oc": 1.0, "tile_ow": 0.05}
        places = {space.encoding.positions[name]: size for name, size in effect.items()}
        rewards = {
            vector: sum(size * vector[place] for place, size in places.items()) + rng.normal(0, 0.02)
            for vector in list(space)[::2]
        }
        found = importance.importances(space, rewards)
        assert [knob.name for knob in found.knobs[:2]] == ["tile_oc", "tile_ow"]
        assert found.r2 > 0.95
        assert all(abs(knob.drop) < 0.02 for knob in found.knobs[2:])
        assert found == importance.importances(space, rewards)

    def test_noise_explains_nothing(self, space):
        rng = np.random.default_rng(0)
        found = importance.importances(space, {vector: rng.normal() for vector in list(space)[::2]})
        assert found.r2 < 0.2

    def test_says_nothing_of_few_configs_or_equal_ones(self, space):
        vectors = list(space)
        assert (
            importance.importances(space, {v: float(n) for n, v in enumerate(vectors[: importance.LEAST - 1])}) is None
        )
        assert importance.importances(space, dict.fromkeys(vectors, 1.0)) is None


class TestLandscape:
    @pytest.mark.parametrize(("name", "operator"), NAMES.items())
    def test_counts_what_was_recorded_without_elites(self, maps, folder, name, operator):
        records = folder.table(operator).records[:-2]
        gains = sorted(record.measurement.speedup for record in records if record.measurement.samples_us)
        found = maps[name]
        assert (found.configs, found.failed) == (len(gains), len(records) - len(gains))
        assert found.failed > 0
        assert (found.best, found.near) == (gains[-1], sum(gain >= NEAR * gains[-1] for gain in gains))
        assert sum(sum(spread.counts) for spread in found.spreads) == found.configs
        assert found.spreads[0].best == found.best
        assert not found.naming.predicted

    def test_the_heat_map_has_the_best_and_all_configs(self, maps):
        heat = maps["small_gemm"].heat
        cells = [cell for row in heat.cells for cell in row if cell is not None]
        assert max(cell.best for cell in cells) == maps["small_gemm"].best
        assert sum(cell.configs for cell in cells) == maps["small_gemm"].configs
        assert [heat.rows, heat.columns] == [knob.name for knob in maps["small_gemm"].within.knobs[:2]]
        assert max(cell.level for cell in cells) == 6
        assert all(cell.median <= cell.best for cell in cells)

    def test_uniform_draws_until_one_is_near_the_best(self, maps):
        found = maps["small_depthwise"]
        rng, whole = np.random.default_rng(0), found.configs + found.failed
        firsts = [rng.permutation(whole)[: found.near].min() + 1 for _ in range(2000)]
        assert found.draws == pytest.approx(np.mean(firsts), rel=0.1)

    def test_a_space_without_speedups_is_a_sentence(self, tmp_path):
        folder = TableFolder(make_folder(tmp_path, error_rate=1.0))
        maps, notes = landscapes_of(folder)
        assert maps == []
        assert notes[0] == "no map of small_depthwise: none of its recorded configs has a speedup"

    def test_importance_is_of_the_log_speedup(self, maps, folder):
        space = build_space(GEMM, INFO)
        records = [record for record in folder.table(GEMM).records[:-2] if record.measurement.samples_us]
        rewards = {space.encode(record.config): math.log(record.measurement.speedup) for record in records}
        assert maps["small_gemm"].importances == importance.importances(space, rewards)

    def test_datasheets_without_a_named_operator_have_no_command(self, folder):
        assert [sheet.command for sheet in sheets_of(folder)] == [None, None]
        assert all("compile" in sheet.failed for sheet in sheets_of(folder))

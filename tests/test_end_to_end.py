"""Models timed beside their peers: the arithmetic of the figures, the order of the turns, the table and the picture."""

import csv
import io
import itertools
import math
import statistics
import threading
import time

import numpy as np
import pytest
import torch
from matplotlib import image
from rich.console import Console

from experiments import end_to_end, end_to_end_tables, peers, rounds, turns
from experiments.end_to_end import PLAN, ModelRow, beside_peers
from experiments.finals import median_interval
from experiments.rounds import Samples, measure, nested_interval, together
from tests.peer_models import reference, two_convs

ROUNDS = 9


def samples(**latencies):
    return Samples(({name: tuple(values) for name, values in latencies.items()},), "CPU time of the process")


def row(model="tiny", **latencies):
    made = samples(**latencies)
    about = {name: "1.0, all of it" for name in latencies if name != PLAN}
    return ModelRow(model, made, dict.fromkeys(latencies, 2e-6), about, {"tensorrt": "TensorRT cannot run tiny: no"})


def drifting(factor):
    """Latencies on a machine that gets slower from round to round."""
    return [100.0 * factor * (1 + number) for number in range(ROUNDS)]


class TestFigures:
    def test_the_ratio_is_taken_round_by_round(self):
        made = samples(plan=drifting(1), slower=drifting(2), fast=drifting(1.2))
        assert made.fastest(["slower", "fast"]) == "fast"
        ratio = made.ratio("fast", PLAN)
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.2, 1.2, 1.2))
        assert made.latency_us("fast") == pytest.approx(600)

    def test_the_interval_is_the_bootstrap_of_the_rounds(self):
        random = np.random.default_rng(3)
        plan, peer = random.uniform(90, 110, 30), random.uniform(110, 130, 30)
        figures = row(plan=plan, onnxruntime=peer).figures()
        ratios = list(peer / plan)
        assert figures["ratio_to_fastest_peer"] == statistics.median(ratios)
        assert (figures["ratio_low"], figures["ratio_high"]) == median_interval(ratios)
        assert figures["ratio_low"] < figures["ratio_to_fastest_peer"] < figures["ratio_high"]

    def test_the_fastest_peer_is_that_of_the_least_median(self):
        lucky = [1.0, *[500.0] * (ROUNDS - 1)]
        figures = row(plan=[100.0] * ROUNDS, openvino=lucky, onnxruntime=[90.0] * ROUNDS).figures()
        assert figures["fastest_peer"] == "onnxruntime"
        assert figures["ratio_to_fastest_peer"] == pytest.approx(0.9)
        latencies = {name: peer["latency_us"] for name, peer in figures["peers"].items()}
        assert latencies == {"openvino": 500, "onnxruntime": 90}
        assert figures["plan_us"] == 100

    def test_what_a_pass_has_in_common_widens_the_interval(self):
        random = np.random.default_rng(5)
        passes = [random.normal(mean, 0.01, 40).tolist() for mean in (0.96, 1.0, 1.03, 0.98, 1.01)]
        low, high = nested_interval(passes)
        assert low < 0.98 < 1.01 < high
        assert np.subtract(*median_interval([*itertools.chain(*passes)])[::-1]) < (high - low) / 2
        assert nested_interval(passes[:1]) == median_interval(passes[0])

    def test_passes_are_paired_within_and_counted_together(self):
        first, second = samples(plan=[10, 20], peer=[20, 40], slow=[500]), samples(plan=[30], peer=[60])
        made = together([first, second])
        assert made.latencies_us == {"plan": (10, 20, 30), "peer": (20, 40, 60), "slow": (500,)}
        assert made.ratio("peer", PLAN).value == 2
        assert made.ratio("slow", PLAN).value == 50
        assert made.ratio(PLAN, "slow").value == 0.02
        assert made.ratio(PLAN, PLAN).high == 1

    def test_a_slow_peer_is_compared_in_the_rounds_that_it_took_part_in(self):
        made = samples(plan=drifting(1), tvm_default=drifting(100)[:3])
        assert made.ratio("tvm_default", PLAN).value == pytest.approx(100)

    def test_without_peers_there_is_no_ratio(self):
        figures = row(plan=drifting(1)).figures()
        for key in ("fastest_peer", "ratio_to_fastest_peer", "ratio_low", "ratio_high"):
            assert figures[key] is None
        assert figures["max_abs_error"] == 2e-6


class TestMeasuring:
    def test_everybody_is_timed_in_every_round_and_the_order_turns(self):
        asked = []
        calls = {name: lambda name=name: (asked.append(name), math.factorial(900)) for name in "abc"}
        made = measure(calls, seconds=0)
        assert {name: len(values) for name, values in made.latencies_us.items()} == dict.fromkeys(
            "abc", rounds.FEWEST_ROUNDS
        )
        assert all(value > 0 for values in made.latencies_us.values() for value in values)
        order = "".join(name for name, _ in itertools.groupby(asked))
        assert order == "abc" + "abcb" * (rounds.FEWEST_ROUNDS // 2) + "abc"  # estimates, then there and back

    def test_a_slow_one_gets_few_rounds(self):
        made = measure({"plan": lambda: time.sleep(1e-3), "slow": lambda: time.sleep(0.05)}, threads=2, seconds=0.1)
        assert len(made.latencies_us["slow"]) == 1
        assert len(made.latencies_us["plan"]) >= rounds.FEWEST_ROUNDS
        assert made.clock.startswith("wall clock")
        assert min(made.latencies_us["slow"]) >= 5e4

    def test_one_thread_is_timed_by_cpu_time_wherever_it_computes(self):
        def elsewhere():
            thread = threading.Thread(target=lambda: math.factorial(20000))
            thread.start()
            thread.join()

        made = measure({"idle": lambda: time.sleep(0.003), "elsewhere": elsewhere}, seconds=0)
        assert max(made.latencies_us["idle"]) < 3e3  # asleep for that long, which is not charged
        assert min(made.latencies_us["elsewhere"]) > 100

    def test_a_turn_waits_until_the_process_uses_no_time_while_it_sleeps(self, monkeypatch):
        class Busy:
            """Clocks of a process that is busy for the first few pauses."""

            def __init__(self, pauses):
                self.left, self.slept, self.used = pauses, 0, 0.0

            def sleep(self, seconds):
                self.slept += seconds
                self.used += seconds if self.left > 0 else 0.02 * seconds
                self.left -= 1

            def process_time(self):
                return self.used

            def perf_counter(self):
                return self.slept

        for pauses, waited in ((0, 1), (5, 6), (10**6, turns.LONGEST_PAUSE / turns.PAUSE_SECONDS)):
            clocks = Busy(pauses)
            monkeypatch.setattr(turns, "time", clocks)
            turns.wait_for_quiet()
            assert clocks.slept == pytest.approx(waited * turns.PAUSE_SECONDS, rel=0.01)

    def test_a_model_is_measured_beside_real_peers(self):
        source = two_convs()
        wanted = reference(source)
        before = torch.get_num_threads()
        loaded, told = [], []

        def load():
            loaded.append(peers.attempt(eager, source, 1, wanted)[0])
            return loaded[-1]

        try:
            eager, _ = chosen = peers.select(["onnxruntime", "torch_eager"], "cpu")
            made = beside_peers(source, load, chosen, wanted, seconds=0, tell=told.append)
        finally:
            torch.set_num_threads(before)
        assert len(made.samples.passes) == len(loaded) == end_to_end.PASSES
        assert told[:3] == [
            "tiny: making it ready with torch eager",
            "tiny: making it ready with ONNX Runtime",
            f"tiny: timing the plan and its peers, pass 1 of {end_to_end.PASSES}",
        ]
        assert made.errors[PLAN] < 1e-5
        figures = made.figures()
        assert set(figures["peers"]) == {"onnxruntime", "torch_eager"}
        assert figures["failed_peers"] == {}
        assert figures["ratio_low"] <= figures["ratio_to_fastest_peer"] <= figures["ratio_high"]
        assert "all graph optimisations" in figures["peers"]["onnxruntime"]["about"]

    def test_a_peer_that_fails_does_not_keep_the_others_from_it(self):
        source = two_convs()
        wanted = [np.zeros((1, 10), np.float32)]
        plan = peers.Prepared(lambda: math.factorial(900), lambda: wanted, "1", "none")
        made = beside_peers(source, lambda: plan, peers.select("torch_eager", "cpu"), wanted, seconds=0)
        assert made.peers == ()
        assert "torch eager computes tiny wrongly" in made.failed["torch_eager"]

    def test_a_slow_peer_is_made_ready_and_timed_in_the_first_pass_alone(self):
        source, made_ready = two_convs(), []

        class Sleepy(peers.Peer):
            name, label = "torch_eager", "sleepy"

            def supported(self, kind, machine):
                return True

            def missing(self):
                return ""

            def prepare(self, source, threads):
                made_ready.append(source)
                return peers.Prepared(lambda: time.sleep(0.05), lambda: reference(source), "1", "none")

        plan = peers.Prepared(lambda: time.sleep(1e-4), lambda: reference(source), "1", "none")
        made = beside_peers(source, lambda: plan, [Sleepy()], reference(source), threads=2, seconds=0)
        assert len(made_ready) == 1
        assert [sorted(each) for each in made.samples.passes] == [["plan", "torch_eager"], *[["plan"]] * 4]
        assert len(made.samples.latencies_us["torch_eager"]) == 1
        assert made.figures()["ratio_to_fastest_peer"] > 10


class TestFiles:
    ROWS = (
        row("first", plan=drifting(1), onnxruntime=drifting(1.3), tvm_default=drifting(110)[:3]),
        row("second", plan=drifting(1), onnxruntime=drifting(0.9), openvino=drifting(0.95)),
    )

    @pytest.fixture
    def text(self, tmp_path):
        stream = io.StringIO()
        end_to_end_tables.write(tmp_path, self.ROWS, "Some CPU, 1 thread.", Console(file=stream, width=80))
        return stream.getvalue()

    def test_the_terminal_shows_ratios_and_notes(self, text):
        assert "1.30 (1.30 to 1.30)" in text
        assert "0.90 (0.90 to 0.90)" in text
        assert "TensorRT cannot run tiny: no." in text
        assert "…" not in text
        assert "Some CPU, 1 thread." in text

    def test_markdown_has_everybodys_latency(self, tmp_path, text):
        cells = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in (tmp_path / "end_to_end.md").read_text().splitlines()
        ]
        assert ["first", "500", "ONNX Runtime, 650 us", "1.30 (1.30 to 1.30)", "2.0e-06"] in cells
        assert ["model", "plan", "ONNX Runtime", "TVM default", "TensorRT", "OpenVINO"] in cells
        assert ["first", "500", "650", "22000", "failed", "not measured"] in cells
        assert ["second", "500", "450", "not measured", "failed", "475"] in cells

    def test_the_papers_figure_has_a_column_of_its_own(self, tmp_path, text):
        lines = (tmp_path / "end_to_end.md").read_text().splitlines()
        (line,) = (line for line in lines if "1.18x" in line)
        assert line.count("1.18x over TensorRT") == 1
        assert "1.30x over ONNX Runtime (first)" in line
        assert any("Tesla P100: another device" in each for each in lines)
        assert "reproduce" not in "".join(lines)

    def test_numbers_come_back_from_the_csv(self, tmp_path, text):
        with (tmp_path / "end_to_end.csv").open(newline="") as file:
            first, second = csv.DictReader(file)
        assert float(first["ratio_to_fastest_peer"]) == pytest.approx(1.3)
        assert float(first["tvm_default_us"]) == pytest.approx(22000)
        assert second["tvm_default_us"] == "not measured"
        assert second["fastest_peer"] == "onnxruntime"
        assert first["rounds"] == str(ROUNDS)

    def test_the_picture_is_drawn(self, tmp_path, text):
        drawn = image.imread(tmp_path / "end_to_end.png")
        assert drawn.shape[1] == 1200
        assert drawn[..., 3].any()

    def test_plans_alone_have_a_table_too(self, tmp_path):
        alone = ModelRow("tiny", samples(plan=drifting(1)), {PLAN: 0.0})
        end_to_end_tables.write(tmp_path, [alone], "Some CPU.", Console(file=io.StringIO()))
        assert "| tiny    | 500        | not measured" in (tmp_path / "end_to_end.md").read_text()
        assert (tmp_path / "end_to_end.png").stat().st_size > 1000

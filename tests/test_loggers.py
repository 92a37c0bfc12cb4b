"""Loggers without an account: what they write of trials, of an interrupted run, and when the disk refuses."""

import struct

import pandas
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments import loggers
from experiments.loggers import LoggerConfig, Tracked, WandbConfig
from experiments.loggers.contract import Nothing
from experiments.loggers.rows import ERRORS
from experiments.naming import MEASURED, PREDICTED
from wpk_envs.core import Measurement
from wpk_envs.tuning import Trial

MEASURED_TRIALS = [
    Measurement(samples_us=(4.0,), baseline_us=(6.0,)),
    Measurement(error="timeout", message="too slow, by far"),
    Measurement(samples_us=(2.0,), baseline_us=(6.0,)),
    Measurement(samples_us=(3.0,), baseline_us=(6.0,)),
]
PREDICTED_TRIALS = [Measurement(predicted_latency_us=2.0, predicted_baseline_us=5.0, confidence="high")]
BARE_TRIALS = [Measurement(error="crash"), Measurement(samples_us=(4.0,)), Measurement(samples_us=(3.0,))]


def trials(measurements):
    configs = [{"template": "direct", "tile": 8 * number} for number in range(1, len(measurements) + 1)]
    if len(configs) > 1:
        configs[1] = {"template": "winograd"}
    numbered = enumerate(zip(configs, measurements), 1)
    return [Trial(n, (n,), config, each, n == 1, n / 4) for n, (config, each) in numbered]


@pytest.fixture
def opened(tmp_path):
    """Open a logger in a folder; its warnings are kept."""
    warnings: list[str] = []

    def opened(name, naming=MEASURED):
        tracked = Tracked("ga-gemm-seed0", "gemm", {}, knobs=("template", "tile"), naming=naming)
        return loggers.open_logger(LoggerConfig(name), tracked, tmp_path / "run", warnings.append)

    opened.warnings = warnings
    return opened


def log(logger, measurements, stop_after=None):
    """Log a run, or only its beginning as a killed process leaves it."""
    logger.start()
    made = trials(measurements)
    for trial in made[:stop_after]:
        logger.trial(trial)
    if stop_after is None:
        logger.finish({"speedup": 3.0, "errors": {"crash": 1}}, made, [])
        logger.close()


class TestCsv:
    def read(self, tmp_path):
        return pandas.read_csv(tmp_path / "run" / "trials.csv")

    def test_a_row_per_trial(self, opened, tmp_path):
        log(opened("csv"), MEASURED_TRIALS)
        table = self.read(tmp_path)
        figures = ["trial", "seconds", "speedup", "latency_us", "best_speedup", "best_latency_us", "reused", "error"]
        assert list(table.columns) == [*figures, "knob.template", "knob.tile"]
        assert table["trial"].tolist() == [1, 2, 3, 4]
        assert table["seconds"].tolist() == [0.25, 0.5, 0.75, 1.0]
        assert table["speedup"].fillna(0).tolist() == [1.5, 0.0, 3.0, 2.0]
        assert table["best_speedup"].tolist() == [1.5, 1.5, 3.0, 3.0]
        assert table["best_latency_us"].tolist() == [4.0, 4.0, 2.0, 2.0]
        assert table["reused"].tolist() == [1, 0, 0, 0]
        assert table["error"].fillna("").tolist() == ["", "timeout", "", ""]
        assert table["knob.template"].tolist() == ["direct", "winograd", "direct", "direct"]
        assert table["knob.tile"].fillna(0).tolist() == [8, 0, 24, 32]

    def test_what_is_predicted_says_so(self, opened, tmp_path):
        log(opened("csv", PREDICTED), PREDICTED_TRIALS)
        table = self.read(tmp_path)
        predicted = ["predicted_speedup", "predicted_latency_us", "best_predicted_speedup", "best_predicted_latency_us"]
        assert table.columns[2:6].tolist() == predicted
        assert table.loc[0, predicted].tolist() == [2.5, 2.0, 2.5, 2.0]

    def test_without_a_baseline_there_is_no_speedup_but_a_latency(self, opened, tmp_path):
        log(opened("csv"), BARE_TRIALS)
        table = self.read(tmp_path)
        assert table["best_speedup"].isna().all()
        assert table["best_latency_us"].isna().tolist() == [True, False, False]
        assert table["best_latency_us"].tolist()[1:] == [4.0, 3.0]

    def test_rows_are_there_at_once_and_a_resumed_run_has_each_of_them_once(self, opened, tmp_path):
        log(opened("csv"), MEASURED_TRIALS, stop_after=3)
        assert self.read(tmp_path)["trial"].tolist() == [1, 2, 3]
        with (tmp_path / "run" / "trials.csv").open("a") as file:
            file.write("4,1.0,2")  # as a killed process leaves it
        log(opened("csv"), MEASURED_TRIALS)
        assert self.read(tmp_path)["trial"].tolist() == [1, 2, 3, 4]


def events(folder):
    """The events of a folder's files, by the format's definition: length, checksum, event, checksum."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


class TestTensorBoard:
    def values(self, tmp_path):
        found = events(tmp_path / "run" / "tensorboard" / "ga-gemm-seed0")
        return [(event, value) for event in found for value in event.summary.value]

    def curve(self, tmp_path, tag):
        return {event.step: value.simple_value for event, value in self.values(tmp_path) if value.tag == tag}

    def test_a_curve_per_figure(self, opened, tmp_path):
        log(opened("tensorboard"), MEASURED_TRIALS)
        assert self.curve(tmp_path, "speedup") == {1: 1.5, 3: 3.0, 4: 2.0}
        assert self.curve(tmp_path, "best_speedup") == {1: 1.5, 2: 1.5, 3: 3.0, 4: 3.0}
        assert self.curve(tmp_path, "latency_us") == {1: 4.0, 3: 2.0, 4: 3.0}
        assert self.curve(tmp_path, "seconds") == {1: 0.25, 2: 0.5, 3: 0.75, 4: 1.0}
        assert self.curve(tmp_path, ERRORS["timeout"]) == {1: 0, 2: 1, 3: 1, 4: 1}

    def test_its_clock_is_the_runs(self, opened, tmp_path):
        log(opened("tensorboard"), MEASURED_TRIALS)
        times = [event.wall_time for event, value in self.values(tmp_path) if value.tag == "seconds"]
        assert [time - times[0] for time in times] == pytest.approx([0.0, 0.25, 0.5, 0.75])

    def test_the_summary_is_a_text(self, opened, tmp_path):
        log(opened("tensorboard"), MEASURED_TRIALS)
        (text,) = [value for _, value in self.values(tmp_path) if value.tag == "summary/text_summary"]
        (content,) = text.tensor.string_val
        assert b"| speedup | 3.0 |" in content
        assert b"crash" not in content

    def test_what_is_predicted_says_so(self, opened, tmp_path):
        log(opened("tensorboard", PREDICTED), PREDICTED_TRIALS)
        tags = {value.tag for _, value in self.values(tmp_path)}
        plain = {"seconds", "reused", *ERRORS.values()}
        assert all("predicted" in tag for tag in tags - plain)
        assert self.curve(tmp_path, "best_predicted_speedup") == {1: 2.5}

    def test_a_resumed_run_hides_what_was_written_before(self, opened, tmp_path):
        log(opened("tensorboard"), MEASURED_TRIALS, stop_after=3)
        log(opened("tensorboard"), MEASURED_TRIALS)
        found = list(events(tmp_path / "run" / "tensorboard" / "ga-gemm-seed0"))
        starts = [place for place, event in enumerate(found) if event.session_log.status == SessionLog.START]
        after = [event for event in found[starts[-1] :] if event.summary.value]
        assert found[starts[-1]].step == 0, "every step from this one on"
        assert {event.step for event in after} == {1, 2, 3, 4}


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_logger_that_cannot_write_is_one_warning(opened, tmp_path, name):
    (tmp_path / "run").touch()
    log(opened(name), MEASURED_TRIALS)
    (warning,) = opened.warnings
    assert "failed (" in warning
    assert warning.endswith("the run goes on without it")


@pytest.mark.parametrize("config", [LoggerConfig("none"), WandbConfig(mode="disabled")])
def test_nothing_on_request(tmp_path, config):
    logger = loggers.open_logger(config, Tracked("name", "group", {}), tmp_path, print)
    assert isinstance(logger, Nothing)
    log(logger, MEASURED_TRIALS)
    assert not list(tmp_path.iterdir())

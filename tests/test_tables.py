"""``python -m experiments.tables``: read from a store of known records, and filled on the synthetic device."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import statistics
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from rich.console import Console

from experiments import config, filling, tables
from experiments.filling import Filling
from experiments.known import Known, known_of
from experiments.launcher import INTERRUPTED, USER_ERROR, run_program
from experiments.speedups import PEERS
from experiments.tune import Outcome, Workplace
from tests.store_samples import measured
from tests.synthetic import INFO, SyntheticDevice
from wpk_envs import devices, operators
from wpk_envs.core import Candidate, Measurement, Operator
from wpk_envs.records import Store
from wpk_envs.schedules import templates_for
from wpk_envs.schedules.cpu.metaschedule import METASCHEDULE

SUITE = operators.suites()["resnet18"]
CONV = operators.get("resnet18/2")
DIRECT = templates_for("cpu")[0]
TORCH = {"name": "plain", "us": 12.0, "baseline_us": 6.0}


def final(latency: float, seconds: float = 10.0, reason: str = "trials", **fields: Any) -> Measurement:
    """A final measurement; its search took some seconds."""
    search = {"algo": "ppo", "seed": 0, "trials": 64, "search_seconds": seconds, "stop_reason": reason}
    details = {"search": search, "plain_torch": TORCH}
    return dataclasses.replace(measured(latency, samples=21), details=details, **fields)


def keep(
    store: Store, measurement: Measurement, template: Any = DIRECT, operator: Operator = CONV, **knobs: Any
) -> None:
    store.put(Candidate(operator, template, {"template": template.name.split("/")[1], **knobs}), INFO, measurement)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "records.sqlite") as opened:
        yield opened


# --- what the store knows


def test_speedups_come_from_finals_alone(store: Store) -> None:
    keep(store, measured(1.0), tile_oc=1)
    assert known_of(store, CONV, INFO) == Known()
    keep(store, final(4.0), tile_oc=2)
    keep(store, final(5.0), tile_oc=3)
    known = known_of(store, CONV, INFO)
    assert known.ours is not None
    assert known.ours.config["tile_oc"] == 2
    assert known.over_vendor is not None
    assert known.over_vendor.value == pytest.approx(8.0 / 4.0)
    assert known.over_vendor.low < known.over_vendor.value < known.over_vendor.high  # type: ignore[operator]
    assert known.over_plain_torch is not None
    assert known.over_plain_torch.value == pytest.approx(2.0 * 12.0 / 6.0)
    assert known.over_tvm is None


def test_of_every_config_the_latest_counts_and_none_that_was_found_wrong_since(store: Store) -> None:
    keep(store, final(2.0), tile_oc=1)
    keep(store, final(4.0), tile_oc=2)
    keep(store, final(6.0), tile_oc=1)
    best = known_of(store, CONV, INFO).ours
    assert best is not None
    assert best.config["tile_oc"] == 2
    keep(store, Measurement(error="wrong_result", message="wrong"), tile_oc=2)
    best = known_of(store, CONV, INFO).ours
    assert best is not None
    assert best.measurement.latency_us == pytest.approx(6.0)


def test_other_versions_devices_and_operators_do_not_count(store: Store) -> None:
    older = type("Older", (type(DIRECT),), {"version": 0})()
    keep(store, final(2.0), older)
    keep(store, final(2.0), operator=operators.get("resnet18/3"))
    store.put(Candidate(CONV, DIRECT, {"template": "direct_conv"}), dataclasses.replace(INFO, threads=2), final(2.0))
    assert known_of(store, CONV, INFO) == Known()


@pytest.mark.parametrize(
    ("seconds", "reason", "counts"),
    [(9.0, "seconds", False), (10.0, "seconds", True), (99.0, "trials", True), (1.0, "finished", True)],
)
def test_metaschedule_counts_if_it_had_the_time_that_ours_took(
    store: Store, seconds: float, reason: str, counts: bool
) -> None:
    keep(store, final(2.0, seconds=10.0))
    keep(store, final(3.0, seconds, reason), METASCHEDULE, trace="[]")
    known = known_of(store, CONV, INFO)
    assert (known.tvm is not None) is counts
    if counts:
        assert known.over_tvm is not None
        assert known.over_tvm.value == pytest.approx(3.0 / 2.0)
        assert known.over_tvm.low < 1.5 < known.over_tvm.high  # type: ignore[operator]


def test_without_a_common_baseline_nothing_is_compared(store: Store) -> None:
    keep(store, final(2.0))
    keep(store, final(3.0, baseline_name="another path"), METASCHEDULE, trace="[]")
    known = known_of(store, CONV, INFO)
    assert known.tvm is not None
    assert not known.together
    assert known.over_tvm is None


# --- the program


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the program in tmp_path on a synthetic device; its exit code, and the folder's files read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    config.register()  # with all suites, before there are fewer
    opened = SyntheticDevice()
    monkeypatch.setattr(devices, "open_device", lambda **settings: opened)
    short = {"resnet18": dataclasses.replace(SUITE, members=(*SUITE.members[1:4], SUITE.members[-1]))}
    monkeypatch.setattr(operators, "suites", lambda: short)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(folder: str, *arguments: str) -> tuple[int, dict[str, Any], list[dict[str, str]]]:
        given = [
            "suites=[resnet18]",
            "algo=random",
            "logger=none",
            "budget.trials=4",
            f"hydra.run.dir={folder}",
            *arguments,
        ]
        code = run_program("tables", tables.tables, tables.check, given)
        result = json.loads((tmp_path / folder / "summary.json").read_text())
        rows = list(csv.DictReader((tmp_path / folder / "tables.csv").open()))
        return code, result, rows

    start.device = opened  # type: ignore[attr-defined]
    yield start
    root.handlers[:] = handlers
    root.setLevel(level)


def test_nothing_is_measured_unless_asked_for_and_rows_say_so(start: Any, tmp_path: Path, capsys: Any) -> None:
    code, result, rows = start("empty")
    assert code == 0
    assert start.device.measured == []
    assert len(rows) == len(operators.suites()["resnet18"].members)
    assert {row["ours_us"] for row in rows} == {row["over_tvm"] for row in rows} == {"not measured"}
    assert len(result["not_measured"]["ours"]) == len(rows)
    assert result["groups"][0]["over_vendor_measured"] == 0
    assert [figure["paper"] for figure in result["paper"]] == [5.40, 1.63, 1.18]
    assert [figure["measured"] for figure in result["paper"]] == [None] * 3
    for ending in ("md", "tex"):
        text = (tmp_path / "empty" / f"tables.{ending}").read_text()
        assert "not measured" in text
        assert "Tesla P100" in text
    assert "tune=true measures it" in capsys.readouterr().out


def test_tuning_fills_the_rows_once(start: Any, tmp_path: Path) -> None:
    code, result, rows = start("first", "tune=true")
    assert code == 0
    spent = len(start.device.measured)
    values = [float(row["over_vendor"]) for row in rows]
    suite = result["groups"][0]
    assert suite["group"] == "resnet18"
    assert suite["over_vendor_measured"] == len(rows)
    assert suite["over_vendor_geomean"] == pytest.approx(statistics.geometric_mean(values))
    assert suite["over_vendor_max"] == max(values)
    assert {row["ours_trials"] for row in rows} == {"4"}
    assert {row["tvm_us"] for row in rows} == {"not measured"}, "it runs on live CPUs alone"
    best = max((row for row in rows if row["kind"] == "conv2d"), key=lambda row: float(row["over_vendor"]))
    over_cudnn = result["paper"][0]
    assert (over_cudnn["measured"], over_cudnn["operator"]) == (float(best["over_vendor"]), best["operator"])

    _, again, rows_again = start("second", "tune=true")
    assert len(start.device.measured) == spent, "what the store has is not measured again"
    assert rows_again == rows
    assert again["groups"] == result["groups"]
    _, _, only_read = start("third")
    assert only_read == rows


def test_what_was_measured_before_an_interruption_is_in_the_tables(start: Any, monkeypatch: Any, capsys: Any) -> None:
    whole = start.device.measure
    left = iter(range(4))

    def measure(*arguments: Any, **settings: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return whole(*arguments, **settings)

    monkeypatch.setattr(start.device, "measure", measure)
    code, result, rows = start("stopped", "tune=true")
    assert code == INTERRUPTED
    assert "the same command goes on" in capsys.readouterr().err
    missing = [row["ours_us"] == "not measured" for row in rows]
    assert missing == sorted(missing)
    assert not missing[0]
    assert missing[-1]
    monkeypatch.setattr(start.device, "measure", whole)
    code, result, _ = start("stopped", "tune=true")
    assert code == 0
    assert result["not_measured"]["ours"] == []


def test_wandb_is_told_of_every_row(start: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    told: list[Any] = []
    monkeypatch.setattr(tables, "log_summary", lambda *given: told.append(given))
    start("run", "tune=true", "logger=wandb")
    logger, tracked, digest, folder = told[0]
    assert (logger.mode, tracked.job, folder) == ("offline", "tables", tmp_path / "run")
    assert digest.scalars["geomean_speedup/resnet18"] > 0
    assert [row["op"] for row in digest.rows] == ["resnet18/2", "resnet18/3", "resnet18/4", "resnet18/16"]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("suites=[resnet19]", "unknown suite 'resnet19'; did you mean resnet18"),
        ("suites=[]", "suites must name at least one"),
        ("device=p100", "device=p100 only predicts, and this needs measurements"),
        ("device=recorded", "device=recorded only replays"),
        ("algo=metaschedule", "algo=metaschedule is what ours is compared with"),
        ("budget.trials=0", "budget.trials must be greater than 0"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    argument: str, sentence: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_program("tables", tables.tables, tables.check, [argument]) == USER_ERROR
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


# --- filling, with MetaSchedule


class Searches:
    """Stands in for `experiments.tune.tune`: a search costs nothing and ends with a final measurement."""

    def __init__(self, names: dict[str, str], slow: float = 0.0) -> None:
        self.names = names
        self.slow = slow
        self.settings: list[Any] = []

    def __call__(self, place: Workplace, name: str, operator: Operator, folder: Path) -> Outcome:
        settings = place.settings
        self.settings.append(settings)
        theirs = settings.algo == "metaschedule"
        folder.mkdir(parents=True, exist_ok=True)
        if theirs and settings.budget.seconds < self.slow:
            summary = {"trials": 0, "stop_reason": "seconds", "search_seconds": self.slow}
            return Outcome(summary, failure="none of the 0 trials")
        measurement = final(3.0 if theirs else 2.0, settings.budget.seconds or 25.0)
        measurement = dataclasses.replace(measurement, baseline_name=self.names[settings.algo])
        template, knobs = (METASCHEDULE, {"trace": "[]"}) if theirs else (DIRECT, {"tile_oc": 1})
        keep(place.store, measurement, template, operator, **knobs)
        return Outcome({"trials": 64, "stop_reason": "seconds"})


@pytest.fixture
def filled(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fill one operator's row; the searches that were made, the device and what is known then."""
    config.register()
    with initialize_config_module("conf", version_base="1.3"):
        settings = tables.check(compose("tables", overrides=["algo=ga", "device=cpu"]))
    monkeypatch.setattr(filling, "CpuDevice", SyntheticDevice)

    def filled(slow: float = 0.0, **names: str) -> tuple[Searches, SyntheticDevice, Known]:
        searches, device = Searches(names, slow), SyntheticDevice()
        monkeypatch.setattr(filling, "tune", searches)
        monkeypatch.setattr(SyntheticDevice, "speedup", lambda self, config: 2.0 if "tile_oc" in config else 1.6)
        place = Workplace(settings, device, store, Console(quiet=True))
        work = Filling(place, "resnet18/2", CONV, tmp_path / "operators")
        work.fill()
        work.fill()
        return searches, device, work.known

    return filled


def test_metaschedule_gets_the_seconds_that_ours_took(filled: Any) -> None:
    searches, device, known = filled(ga="one", metaschedule="one")
    assert [settings.algo for settings in searches.settings] == ["ga", "metaschedule"], "each once"
    ours, theirs = (settings.budget for settings in searches.settings)
    assert ours.trials == 128
    assert (theirs.trials, theirs.seconds) == (None, 25.0)
    assert searches.settings[1].algo_settings == {}
    assert known.over_tvm is not None
    assert device.measured == []


def test_metaschedule_gets_more_if_it_proposed_nothing_in_time(filled: Any) -> None:
    searches, _, known = filled(slow=70.0, ga="one", metaschedule="one")
    assert [settings.budget.seconds for settings in searches.settings[1:]] == [25.0, 140.0]
    assert known.tvm is not None


def test_both_are_measured_again_where_their_baselines_differ(filled: Any) -> None:
    _, device, known = filled(ga="one", metaschedule="other")
    assert len(device.measured) == 2
    assert known.together
    assert known.over_tvm is not None
    assert known.over_tvm.value == pytest.approx(2.0 / 1.6)
    assert known.over_plain_torch is not None, "what is known of the searches is kept"


def test_peers_are_what_is_known() -> None:
    assert all(getattr(Known(), peer) is None for peer in PEERS)

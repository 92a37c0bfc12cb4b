"""Runs on a predicted device: every figure, column, axis and file says predicted. The predictor is synthetic."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import gymnasium as gym
import pytest
import wandb

import wpk_envs  # noqa: F401  (registers the ids)
from experiments import bench, figures, plot, summary
from experiments import store as store_program
from experiments.launcher import USER_ERROR, run_program
from experiments.naming import MEASURED, PREDICTED
from experiments.run import run
from experiments.settings import settings_of
from tests import synthetic_predictor as synthetic
from tests.store_samples import DEVICE, candidate, measured
from wpk_envs import devices
from wpk_envs.core import Measurement
from wpk_envs.devices.predicted.device import PredictedDevice
from wpk_envs.records import Store

SMALL = ("op=gemm", "op.m=33", "op.n=40", "op.k=24", "device=p100", "device.workers=1", "logger=none")
MEASURED_ONLY = {*summary.MEASURED_KEYS} - {"best_config", "baseline_name", "details"}


def use(monkeypatch: pytest.MonkeyPatch, predictor: dict[str, str] = synthetic.SETTINGS) -> None:
    """Let devices that are opened by name predict by a synthetic predictor."""

    def open_device(name, **settings):
        given = {key: value for key, value in settings.items() if value is not None}
        return PredictedDevice(name, **given, **predictor)

    monkeypatch.setattr(devices, "open_device", open_device)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to run in, with a store of its own; Hydra's logging is taken down again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    use(monkeypatch)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


def start(*arguments: str) -> int:
    return run_program("run", run, settings_of, [*SMALL, "hydra.run.dir=run", *arguments])


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_a_run_says_predicted_wherever_it_tells_a_figure(place, capsys):
    assert start("algo=ga", "budget.trials=6", "logger=wandb") == 0
    found, (out, err), folder = summary_of(place / "run"), capsys.readouterr(), place / "run"
    assert err == ""

    assert found["predicted"] is True
    assert found["device"] == "predicted"
    assert not MEASURED_ONLY & found.keys()
    assert found["predicted_speedup"] == found["predicted_baseline_us"] / found["predicted_latency_us"]
    assert found["percent_of_roofline"] == 100 * found["roofline_us"] / found["predicted_latency_us"]
    assert found["baseline_name"] == "default schedule (predicted)"
    assert found["confidence"] in ("high", "low: low occupancy")
    assert found["versions"]["predictor"] == "synthetic 1"

    sentence = f"gemm: predicted {found['predicted_latency_us']:.1f} us, {found['predicted_speedup']:.2f}x the "
    sentence += (
        f"default schedule (predicted), {found['percent_of_roofline']:.0f}% of the roofline of gemm; confidence "
    )
    assert sentence in out
    assert "device=p100: Tesla P100-PCIE-16GB, predicted" in out
    assert "note: kernels are compiled for Tesla P100-PCIE-16GB, their times are predicted by a model" in out
    assert "trial 6 of 6: best predicted " in out
    for word in ("measuring", "interval", "sample", "vendor"):
        assert word not in out

    header, *trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert header["predicted"] is True
    assert len(trials) == 6
    assert max(trial["predicted_speedup"] for trial in trials) == found["predicted_speedup"]
    assert not any({"speedup", "latency_us"} & trial.keys() for trial in trials)
    assert not any({"samples_us", "baseline_us"} & trial["measurement"].keys() for trial in trials)

    assert (folder / "predicted_best_so_far.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "best_so_far.png").exists()
    assert json.loads((folder / "best_config.json").read_text())["predicted"] is True
    assert (folder / "best_schedule.py").read_text().startswith("# predicted ")

    wandb.teardown()  # waits for the file, as the end of a program does
    content = b"".join(path.read_bytes() for path in (folder / "wandb").rglob("*") if path.is_file())
    assert b"best_predicted_speedup" in content
    assert b'"seconds","predicted_speedup","predicted_latency_us"' in content.replace(b", ", b",")
    assert b"predicted_latency_us" in content
    assert not any(word in content for word in (b'"speedup"', b'"latency_us"', b"best_speedup", b"\x07speedup"))

    with Store() as store:
        records = list(store.records())
        assert len(records) == 6, "nothing is measured again"
        assert store.count(outcome="predicted") == 6
        assert store.count(outcome="measured") == 0

    assert start("algo=ga", "budget.trials=6", "hydra.run.dir=again") == 0
    assert summary_of(place / "again")["trials_reused"] == 6
    assert summary_of(place / "again")["predicted_speedup"] == found["predicted_speedup"]
    assert start("resume=run", "budget.trials=8") == 0
    assert summary_of(place / "run")["trials"] == 8


def test_confident_predictions_on_request(place):
    assert start("algo=random", "budget.trials=10", "device.confidence=high") == 0
    found = summary_of(place / "run")
    assert found["confidence"] == "high"
    assert found["trials"] == 10
    assert found["errors"]["invalid"] > 0
    with Store() as store:
        assert store.count(outcome="invalid") == found["errors"]["invalid"]


def test_without_any_prediction_there_is_a_sentence(place, monkeypatch, capsys):
    use(monkeypatch, {**synthetic.SETTINGS, "predictor": f"{synthetic.__name__}:refuse"})
    assert start("algo=random", "budget.trials=2") == USER_ERROR
    assert "none of the 2 trials of gemm gave a working schedule (2 compile)" in capsys.readouterr().err
    found = summary_of(place / "run")
    assert found["predicted"] is True
    assert found["predicted_latency_us"] is None
    assert not MEASURED_ONLY & found.keys()
    assert (place / "run" / "predicted_best_so_far.png").exists()


def entry(**changes) -> dict:
    figures = {"predicted_latency_us": 20.0, "predicted_baseline_us": 40.0, "predicted_speedup": 2.0}
    fixed = {"op": "net/1", "count": 3, "stop_reason": "trials", "trials": 4, "seconds": 1.0, "algo": "ga", "seed": 0}
    device = {"device": "predicted", "device_name": "Tesla P100", "threads": 1, "date": "", "versions": {}}
    return {
        **fixed,
        **device,
        **figures,
        "predicted": True,
        "percent_of_roofline": 61.0,
        "confidence": "high",
        "best_config": {"template": "gemm"},
        **changes,
    }


def test_a_network_has_predicted_columns_and_a_predicted_mean(capsys):
    missing = dict.fromkeys(("predicted_latency_us", "predicted_baseline_us", "predicted_speedup"))
    found = summary.suite_figures("net/all", [entry(), entry(predicted_speedup=8.0), entry(**missing)])
    assert found["geomean_predicted_speedup"] == pytest.approx(4.0)
    assert "geomean_speedup" not in found
    table = summary.suite_table(found)
    headers = [str(column.header) for column in table.columns]
    assert [header for header in headers if "predicted" in header] == [
        "predicted latency us",
        "predicted baseline us",
        "predicted speedup",
        "of roofline (predicted)",
    ]
    assert table.title == "net/all on Tesla P100 (predicted), ga, seed 0"
    assert table.caption == "geometric mean of the predicted speedups: 4.00x"
    assert list(table.columns[-1].cells) == ["gemm", "gemm", "no result"]


@pytest.mark.parametrize(
    ("naming", "expected"),
    [
        (MEASURED, {"speedup over the vendor's best (x)", "vendor's best", "trial", "best so far"}),
        (
            PREDICTED,
            {
                "predicted speedup over the default schedule (x)",
                "default schedule (predicted)",
                "predicted trial",
                "predicted best so far",
            },
        ),
    ],
)
def test_axes_and_curves_say_what_they_are(tmp_path, monkeypatch, naming, expected):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure))
    plot.save(tmp_path / "plot.png", [], "title", "subtitle", naming)
    left = drawn[0].axes[0]
    assert {left.get_ylabel(), *(text for text in left.get_legend_handles_labels()[1])} == expected


def test_figures_of_a_bench_say_so_too():
    figure = figures.Figure("conv3x3_speedup", 1.9, {"conv3x3": [1.9]}, predicted=True).to_dict()
    assert (figure["figure"], figure["target"], figure["met"]) == ("predicted_conv3x3_speedup", 1, True)
    assert figure["what"] == "conv3x3: best predicted over the default schedule (predicted)"
    assert figures.PREDICTED_TARGETS.keys() == figures.TARGETS.keys()
    assert figures.Figure("startup", 1.0, predicted=True).to_dict()["figure"] == "startup"


def test_a_bench(place, capsys):
    arguments = ["device=p100", "algo=random", "budget.trials=2", "figures=[conv3x3_speedup,gemm_rate]"]
    assert run_program("bench", bench.bench, bench.check, [*arguments, "hydra.run.dir=run"]) == 0
    found = summary_of(place / "run")
    speedup, rate = found["figures"]
    assert (found["predicted"], found["device"]) == (True, "predicted")
    assert speedup["figure"] == "predicted_conv3x3_speedup"
    assert speedup["samples"]["conv3x3"] == [speedup["value"]]
    assert (rate["figure"], rate["what"]) == ("gemm_rate", "matrix product, built and predicted")
    assert f"conv3x3: predicted {speedup['value']:.2f}x" in capsys.readouterr().out


class TestStoreProgram:
    @pytest.fixture
    def mixed(self, place):
        """A store with a measurement, and with predictions for the same operator."""
        with Store() as store:
            store.put(candidate(tile_oc=1), DEVICE, measured(4.0))
            for tile, latency in ((2, 3.0), (3, 1.5)):
                prediction = Measurement(predicted_latency_us=latency, predicted_baseline_us=6.0, confidence="high")
                store.put(candidate(tile_oc=tile), DEVICE, prediction)
        return place

    def start(self, capsys, *arguments: str) -> tuple[str, dict]:
        assert run_program("store", store_program.act, store_program.check, arguments) == 0
        out = capsys.readouterr().out
        return out, json.loads(Path(out.splitlines()[-1]).read_text())

    def test_measured_and_predicted_have_columns_of_their_own(self, mixed, capsys):
        rows = [line.split("│")[5:10] for line in self.start(capsys)[0].splitlines() if "direct_conv" in line]
        assert [[cell.strip() for cell in row] for row in rows] == [
            ["predicted", "", "", "1.5 us", "4.00x"],
            ["predicted", "", "", "3.0 us", "2.00x"],
            ["measured", "4.0 us", "2.00x", "", ""],
        ]
        only = self.start(capsys, "outcome=measured")[0].splitlines()
        assert not any("predicted" in line for line in only[:-1])

    def test_best_looks_at_the_one_or_the_other(self, mixed, capsys):
        assert [record["config"]["tile_oc"] for record in self.start(capsys, "action=best")[1]["records"]] == [1]
        out, found = self.start(capsys, "action=best", "outcome=predicted")
        assert "by predicted speedup" in out
        assert [record["config"]["tile_oc"] for record in found["records"]] == [3]
        assert (found["records"][0]["speedup"], found["records"][0]["predicted_speedup"]) == (None, 4.0)


class TestEnvironment:
    def test_reward_and_info_are_the_prediction(self, place):
        with PredictedDevice("p100", workers=1, **synthetic.SETTINGS) as device:
            env = gym.make("wpk/Gemm-v0", device=device, store=False, op={"m": 33, "n": 40, "k": 24})
            env.reset(seed=0)
            terminated = False
            while not terminated:
                action = env.unwrapped.action_masks().argmax()
                _, reward, terminated, _, info = env.step(action)
            assert reward == pytest.approx(math.log(info["predicted_speedup"]))
            assert info["predicted_latency_us"] > 0
            assert info["confidence"]
            assert not {"speedup", "latency_us"} & info.keys()
            env.close()

    def test_by_the_name_of_the_gpu(self, place):
        env = gym.make("wpk/Gemm-v0", device="p100", store=False, op={"m": 33, "n": 40, "k": 24})
        assert env.unwrapped.problem.device.predicts
        env.close()

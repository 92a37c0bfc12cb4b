"""Comparing the model with measurements, on a table of made-up times that says so; no GPU measured it."""

import dataclasses
import json
import math

import numpy as np
import pytest

from experiments import validate_model
from wpk_envs.core import Measurement
from wpk_envs.devices.cuda.descriptions import describe
from wpk_envs.devices.predicted.predictor import predict
from wpk_envs.devices.predicted.validation import Pair, by_regime, validate
from wpk_envs.operators import Gemm
from wpk_envs.records import Record
from wpk_envs.records.table import write_table
from wpk_envs.schedules import build_space

DEVICE = dataclasses.replace(describe("p100"), name="made-up GPU, times are not measured")


def pairs(measured, predicted, regime="high", flops=None):
    orders = [{"model": p, "flops": f, "occupancy": -0.5} for p, f in zip(predicted, flops or predicted)]
    return [Pair("gemm", regime, m, order) for m, order in zip(measured, orders)]


def test_perfect_predictions_have_no_regret_bias_or_scatter():
    found = validate(pairs([1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 4.0, 3.0]))
    assert found.bias == found.scatter == 1.0
    assert found.agreement["model"].spearman == pytest.approx(1.0)
    assert found.agreement["model"].regret == {"1": 1.0, "5": 1.0, "10": 1.0}


def test_a_constant_factor_is_bias_and_nothing_else():
    found = validate(pairs([1.0, 2.0, 4.0], [3.0, 6.0, 12.0]))
    assert found.bias == pytest.approx(3.0)
    assert found.scatter == pytest.approx(1.0)


def test_the_worst_order_has_all_the_regret():
    found = validate(pairs([1.0, 2.0, 4.0], [3.0, 2.0, 1.0]))
    assert found.agreement["model"].spearman == pytest.approx(-1.0)
    assert found.agreement["model"].regret["1"] == pytest.approx(4.0)
    assert found.agreement["model"].regret["5"] == 1.0


def test_an_order_that_tells_nothing_apart_has_no_correlation_and_the_worst_choice():
    agreement = validate(pairs([1.0, 2.0, 4.0], [1.0, 2.0, 4.0])).agreement["occupancy"]
    assert agreement.spearman is None
    assert agreement.regret["1"] == pytest.approx(4.0)


def test_regimes_are_told_apart_and_few_kernels_are_not_ranked():
    found = by_regime([*pairs([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), *pairs([1.0], [2.0], "low: few warps")])
    assert list(found) == ["all", "high", "low: few warps"]
    assert found["all"].kernels == 4
    assert found["low: few warps"].operators == 0
    assert found["low: few warps"].agreement["model"].regret == {}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Twelve kernels of a small product whose made-up times are the predictions with noise of a tenth."""
    rng, space = np.random.default_rng(0), build_space(Gemm(m=256, n=256, k=128), DEVICE)
    records = []
    for number in range(12):
        candidate = space.candidate(space.sample(rng))
        made_up = 2 * predict(candidate, DEVICE).predicted_latency_us * math.exp(rng.normal(0, 0.1))
        records.append(
            Record(
                number,
                "2026-01-01T00:00:00+00:00",
                candidate.key,
                candidate.operator,
                candidate.template.name,
                candidate.template.version,
                dict(candidate.config),
                DEVICE,
                Measurement(samples_us=(made_up,)),
            )
        )
    path = tmp_path_factory.mktemp("tables") / "made_up.parquet"
    write_table(path, records, {"made-up": True})
    return path


def run(monkeypatch, tmp_path, *settings):
    monkeypatch.setattr("sys.argv", ["validate_model", f"hydra.run.dir={tmp_path}", *settings])
    try:
        validate_model.main()
    except SystemExit as ending:
        return ending.code or 0
    return 0


def test_the_program_predicts_a_table_and_finds_what_was_put_in(monkeypatch, tmp_path, table, capsys):
    assert run(monkeypatch, tmp_path, f"table={table}", "workers=1") == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    everything = summary["regimes"]["all"]
    assert summary["kernels"] == summary["predicted"] == everything["kernels"] == 12
    assert everything["bias"] == pytest.approx(0.5, rel=0.1)
    assert 1.0 < everything["scatter"] < 1.3
    assert everything["agreement"]["model"]["spearman"] > 0.8
    assert set(everything["agreement"]) == {"model", "flops", "occupancy"}
    assert "predictions against measurements" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ([], "table=FILE is missing"),
        (["table=nowhere.parquet"], "there is no table 'nowhere.parquet'"),
        (["table=nowhere.parquet", "workers=0"], "workers must be a whole number from 1 to"),
    ],
)
def test_bad_input_is_one_sentence(monkeypatch, tmp_path, capsys, settings, sentence):
    assert run(monkeypatch, tmp_path, *settings) == 2
    assert sentence in capsys.readouterr().err

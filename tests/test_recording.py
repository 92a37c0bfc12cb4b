"""``stage=measure`` of `experiments.record`, on a synthetic device."""

import dataclasses
import json

import pytest
from rich.console import Console

from experiments import measure_stage, record
from experiments.config import CpuConfig
from experiments.launcher import INTERRUPTED, run_program
from experiments.recording import AGAIN, MeasureSettings, Recording, joined
from tests.recorded_tables import GEMM, UnsteadyDevice
from wpk_envs.core import Measurement
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.records import Store, read_table
from wpk_envs.schedules import build_space

NAME = "small_gemm"


class Places(UnsteadyDevice):
    """Every new device finds other places in memory: it is slower by a factor of its own."""

    made = 0

    def __init__(self, **settings):
        super().__init__(**settings)
        type(self).made += 1
        self.factor = 1 + type(self).made / 100
        self.interrupt_after = None

    def fresh(self):
        return Places(error_rate=self.error_rate)

    def measure(self, candidates, on_result=None, repeats=None):
        answers = []
        for position, candidate in enumerate(candidates):
            answers += super().measure([candidate])
            if on_result is not None:
                on_result(position, answers[-1])
        return answers

    def _answer(self, candidate):
        if self.interrupt_after is not None:
            self.interrupt_after -= 1
            if self.interrupt_after < 0:
                raise KeyboardInterrupt
        answer = super()._answer(candidate)
        return dataclasses.replace(answer, samples_us=tuple(self.factor * sample for sample in answer.samples_us))


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "records.sqlite") as store:
        yield store


def recording(device, store, **settings):
    return Recording(MeasureSettings(CpuConfig(), {NAME: GEMM}, **settings), device, store, Console(quiet=True))


def size(reduction):
    return build_space(GEMM, UnsteadyDevice().info, reduction=reduction).size


@pytest.mark.parametrize(("space", "configs"), [("full", None), ("compact", None), ("full", 30)])
def test_a_space_is_recorded_and_can_be_replayed(tmp_path, store, space, configs):
    device = UnsteadyDevice(error_rate=0.1)
    path = tmp_path / "tables" / "gemm.parquet"
    sheet = recording(device, store, space=space, configs=configs).record(NAME, GEMM, path)
    wanted = configs or size(space)
    assert sheet["counts"]["rows"] == wanted
    assert sheet["counts"]["measured"] < wanted
    assert sheet["protocol"]["whole"] is (configs is None)
    assert sheet["protocol"]["measured_again"] > 10
    replay = RecordedDevice(path.parent)
    assert dict(replay.operators) == {NAME: GEMM}
    assert len(replay.configs(GEMM)) == wanted


def test_configs_are_measured_in_random_order_by_seed(tmp_path, store):
    orders = []
    for seed in (0, 0, 1):
        with Store(tmp_path / f"{len(orders)}.sqlite") as fresh:
            device = UnsteadyDevice()
            recording(device, fresh, configs=30, seed=seed).record(NAME, GEMM, tmp_path / "gemm.parquet")
            orders.append(device.measured[:30])
    assert orders[0] == orders[1] != orders[2]
    space = build_space(GEMM, device.info)
    ranks = [list(space).index(space.encode(candidate.config)) for candidate in device.batches[0]]
    assert ranks != sorted(ranks)


def test_what_is_known_is_not_measured_again(tmp_path, store):
    first, second = UnsteadyDevice(error_rate=0.1), UnsteadyDevice(error_rate=0.1)
    before = recording(first, store, configs=20).record(NAME, GEMM, tmp_path / "gemm.parquet")
    after = recording(second, store, configs=20).record(NAME, GEMM, tmp_path / "gemm.parquet")
    transient = before["counts"].get("timeout", 0) + before["counts"].get("crash", 0)
    assert len(set(second.measured)) == transient
    assert after["counts"] == before["counts"]


def test_the_best_are_confirmed_in_new_processes_with_all_samples_kept(tmp_path, store):
    device = Places()
    recording(device, store, configs=100, confirm=10).record(NAME, GEMM, tmp_path / "gemm.parquet")
    rows = read_table(tmp_path / "gemm.parquet").records
    counts = [len(row.measurement.samples_us) for row in rows]
    assert set(counts) <= {3, 6, 9}
    ranked = sorted(rows, key=lambda row: -row.measurement.gain)
    assert [len(row.measurement.samples_us) for row in ranked[:5]] == [9] * 5
    assert len(device.measured) == 100  # all the others were made by fresh ones
    assert all(len(row.measurement.baseline_us) == len(row.measurement.samples_us) for row in rows)


def test_noise_is_told_from_second_measurements(tmp_path, store):
    sheet = recording(Places(), store, configs=AGAIN + 20).record(NAME, GEMM, tmp_path / "gemm.parquet")
    assert sheet["protocol"]["measured_again"] == AGAIN
    assert sheet["protocol"]["noise_again"] == pytest.approx(0.01, rel=0.1)


def test_a_config_that_ever_failed_counts_as_failed(tmp_path, store):
    recording(UnsteadyDevice(), store, configs=1).record(NAME, GEMM, tmp_path / "gemm.parquet")
    (good,) = read_table(tmp_path / "gemm.parquet").records
    bad = dataclasses.replace(good, measurement=Measurement(error="wrong_result", message="off"))
    assert joined([good, bad, good]) == bad
    assert joined([good]) == good


def test_elites_come_from_outside_of_the_space(tmp_path, store):
    device = UnsteadyDevice()
    recording(device, store, space="full").record(NAME, GEMM, tmp_path / "full.parquet")
    sheet = recording(device, store, space="compact", elites=3).record(NAME, GEMM, tmp_path / "gemm.parquet")
    assert sheet["protocol"]["elites"] == 3
    assert sheet["counts"]["rows"] == size("compact") + 3


def test_an_interrupted_recording_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    devices = [Places(), Places()]
    devices[0].interrupt_after = 12
    monkeypatch.setattr(measure_stage.devices, "open_device", lambda **settings: devices.pop(0))
    command = ["device=cpu", "op=gemm", "configs=20", "tables=tables", "hydra.run.dir=run"]
    first, second = devices
    assert run_program("record", record.act, record.check, command) == INTERRUPTED
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "tables").exists()
    assert run_program("record", record.act, record.check, command) == 0
    assert len(first.measured) >= 12
    assert len(second.measured) == 8
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["tables"]["gemm"]["counts"] == {"rows": 20, "measured": 20}
    assert len(read_table(tmp_path / "tables" / "gemm.parquet").records) == 20

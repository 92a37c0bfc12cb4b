"""`device=recorded`: what was measured is played back, and nothing else."""

import dataclasses
import math
import shutil
import statistics

import numpy as np
import pytest

from tests.recorded_tables import GEMM, NAMES, OPERATOR, UnsteadyDevice, make_folder, records
from tests.synthetic import INFO
from wpk_envs.devices import check_measures, open_device
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.errors import UserError
from wpk_envs.records import Store, read_table, write_table
from wpk_envs.records.library import TableFolder, shipped
from wpk_envs.schedules import build_space
from wpk_envs.tuning import Budget, TuningProblem


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tables"))


def space_on(device, operator=OPERATOR):
    return build_space(operator, device.info, among=device.configs(operator))


def test_every_recorded_config_gets_its_record(folder):
    device = open_device("recorded", tables=folder)
    space = space_on(device)
    table = read_table(folder / "small_depthwise.parquet")
    assert device.info == INFO
    assert dict(device.operators) == NAMES
    assert space.size == len(table.records)
    candidates = [space.candidate(space.encode(record.config)) for record in table.records]
    seen = {}
    answers = device.measure(candidates, on_result=seen.__setitem__)
    assert answers == [record.measurement for record in table.records]
    assert seen == dict(enumerate(answers))
    assert device.best(OPERATOR) == max(answers, key=lambda answer: answer.reward)
    assert device.peak_gflops() == 100.0


def test_what_was_not_recorded_is_invalid(folder):
    device = RecordedDevice(folder)
    full = build_space(OPERATOR, device.info)
    outside = next(vector for vector in full if not space_on(device).is_valid(vector))
    (answer,) = device.measure([full.candidate(outside)])
    assert answer.error == "invalid"
    assert "was not recorded" in answer.message


def test_noise_is_drawn_from_the_samples_by_seed_and_candidate(folder):
    plain, noisy, again, other = (
        RecordedDevice(folder, noise=noise, seed=seed) for noise, seed in [(False, 0), (True, 1), (True, 1), (True, 2)]
    )
    space = space_on(plain)
    candidates = [space.candidate(vector) for vector in space]
    exact, first = plain.measure(candidates), noisy.measure(candidates)
    assert first == again.measure(candidates[::-1])[::-1]
    assert first != other.measure(candidates)
    assert noisy.reseeded(1).measure(candidates) == other.measure(candidates)
    assert [noisy.recorded(candidate) for candidate in candidates] == exact
    for one, drawn in zip(exact, first):
        assert drawn.error == one.error
        assert set(zip(drawn.samples_us, drawn.baseline_us)) <= set(zip(one.samples_us, one.baseline_us))
        assert len(drawn.samples_us) == len(one.samples_us)
    apart = [abs(math.log(a.gain / b.gain)) for a, b in zip(exact, first) if a.gain]
    assert 0 < statistics.mean(apart) < 0.04


def test_elites_are_the_best_known_and_cannot_be_searched(tmp_path):
    device = RecordedDevice(make_folder(tmp_path, elites=5))
    table = read_table(tmp_path / "small_gemm.parquet")
    flagged = [record for record in table.records if record.measurement.details.get("elite")]
    assert len(flagged) == 5
    assert space_on(device, GEMM).size == len(table.records) - 5
    assert device.best(GEMM) == max((r.measurement for r in table.records), key=lambda answer: answer.reward)
    assert all(record.config not in device.configs(GEMM) for record in flagged)


def test_a_replayed_trial_costs_what_it_cost_and_is_not_kept(folder, tmp_path):
    device = RecordedDevice(folder)
    space = space_on(device)
    with Store(tmp_path / "records.sqlite") as store:
        problem = TuningProblem(OPERATOR, device, space, store=store, budget=Budget(trials=20))
        problem.measure(list(space))
        assert store.count() == 0
    assert len(problem.trials) == 20
    assert not any(trial.reused for trial in problem.trials)
    assert problem.seconds == pytest.approx(20 * 0.5 / device.workers, abs=2)
    assert [trial.seconds for trial in problem.trials] == sorted(trial.seconds for trial in problem.trials)


def test_a_budget_of_seconds_is_one_of_recorded_seconds(folder):
    device = RecordedDevice(folder)
    space = space_on(device)
    problem = TuningProblem(OPERATOR, device, space, budget=Budget(trials=None, seconds=100 * 0.25))
    for vector in space:
        problem.measure([vector])
    assert problem.stop_reason == "seconds"
    assert 80 < len(problem.trials) <= 100


def test_measuring_is_not_what_it_does():
    with pytest.raises(UserError, match="only replays"):
        check_measures("recorded")


def test_an_operator_without_a_table_is_a_sentence(folder):
    from wpk_envs import operators

    with pytest.raises(UserError, match="conv2d 64x56x56 -> 64, 3x3 was not recorded; recorded are small_depthwise"):
        RecordedDevice(folder).configs(operators.get("conv3x3"))


def test_a_folder_without_tables_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="has no tables; give one of"):
        RecordedDevice(tmp_path)


def test_tables_of_two_devices_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "mixed")
    rows = records(GEMM, UnsteadyDevice(), 50)
    elsewhere = dataclasses.replace(INFO, name="another one")
    write_table(tmp_path / "mixed" / "b.parquet", [dataclasses.replace(row, device=elsewhere) for row in rows], {})
    with pytest.raises(UserError, match=r"tables of 2 devices or versions: .*another one"):
        RecordedDevice(tmp_path / "mixed")


def test_records_of_another_version_of_a_template_are_refused(tmp_path):
    rows = [dataclasses.replace(row, template_version=0) for row in records(GEMM, UnsteadyDevice(), 50)]
    write_table(tmp_path / "gemm.parquet", rows, {})
    with pytest.raises(UserError, match="have version 0 of template cpu/gemm, which has version 1 here"):
        RecordedDevice(tmp_path).configs(GEMM)


def test_a_damaged_table_is_refused_before_it_is_used(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "tables")
    path = tmp_path / "tables" / "small_gemm.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))
    device = RecordedDevice(tmp_path / "tables")
    assert device.configs(OPERATOR)
    with pytest.raises(UserError, match="damaged"):
        device.configs(GEMM)


@pytest.mark.parametrize("name", shipped())
def test_shipped_tables_are_whole_and_can_be_replayed(name):
    folder = TableFolder(name)
    device = RecordedDevice(name)
    assert device.peak_gflops() > 0
    for operator in folder.operators.values():
        sheet = folder.datasheet(operator)
        assert {"space", "whole", "repeats", "timing", "noise_again"} <= sheet["protocol"].keys()
        assert device.best(operator).gain > 0.5
        space = space_on(device, operator)
        assert space.size == sheet["counts"]["rows"] - sheet["protocol"]["elites"]
        if sheet["protocol"]["whole"]:
            whole = build_space(operator, device.info, reduction=sheet["protocol"]["space"])
            assert list(space) == list(whole)


def test_shipped_tables_are_small():
    total = sum(path.stat().st_size for name in shipped() for path in TableFolder(name).folder.glob("*.parquet"))
    assert total < 20e6


def test_random_numbers_of_others_are_left_alone(folder):
    state = np.random.get_state()[1].copy()
    device = RecordedDevice(folder, noise=True)
    device.measure([space_on(device).candidate(next(iter(space_on(device))))])
    assert (np.random.get_state()[1] == state).all()

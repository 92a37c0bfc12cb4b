"""The store: what it returns, several processes, killed writers, bad files, and its exports."""

import dataclasses
import json
import multiprocessing
import os
import pickle
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.store_samples import DEVICE, candidate, measured
from wpk_envs import operators
from wpk_envs.core import DeviceInfo, Measurement
from wpk_envs.errors import UserError
from wpk_envs.records import Store, default_path, export
from wpk_envs.records.database import SCHEMA_VERSION

ROOT = Path(__file__).parent.parent
VERSION_1, VERSION_2 = ((Path(__file__).parent / f"store_version_{n}.sql").read_text() for n in (1, 2))
"""Stores of one and of two records, as earlier versions made them."""


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "records.sqlite") as opened:
        yield opened


def writer(path: Path, worker: int, count: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.store_samples", str(path), str(worker), str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


class TestGet:
    @pytest.mark.parametrize(
        "measurement",
        [
            measured(2.0, samples=21),
            measured(2.0, baseline=None),
            dataclasses.replace(measured(2.0), details={"registers": 64, "hot": {"samples_us": [1.5]}, "clock": None}),
            Measurement(predicted_latency_us=4.5, confidence="high"),
            Measurement(
                predicted_latency_us=4.5, predicted_baseline_us=9.0, baseline_name="default schedule (predicted)"
            ),
            Measurement(error="compile", message="LLVM says 'no'", build_seconds=1.5),
            Measurement(error="invalid", message="29 accumulators"),
            Measurement(error="wrong_result", message="off", max_error=float("inf"), layouts={"x": "NCHW"}),
        ],
    )
    def test_gives_back_all_that_was_put(self, store, measurement):
        store.put(candidate(tile=1), DEVICE, measurement)
        assert store.get(candidate(tile=1), DEVICE) == measurement

    def test_nothing_known(self, store):
        assert store.get(candidate(), DEVICE) is None

    @pytest.mark.parametrize(
        ("other", "device"),
        [
            (candidate(tile=2), DEVICE),
            (candidate(tile=1, version=2), DEVICE),
            (candidate(tile=1, template="cpu/winograd_conv"), DEVICE),
            (candidate("conv1x1", tile=1), DEVICE),
            (candidate(tile=1), dataclasses.replace(DEVICE, name="Other CPU")),
            (candidate(tile=1), dataclasses.replace(DEVICE, threads=2)),
            (candidate(tile=1), dataclasses.replace(DEVICE, versions={"tvm": "0.28"})),
            (candidate(tile=1), dataclasses.replace(DEVICE, limits={"vector_lanes": 8})),
        ],
    )
    def test_another_candidate_version_or_device_never_answers(self, store, other, device):
        store.put(candidate(tile=1), DEVICE, measured(2.0))
        assert store.get(candidate(tile=1), DEVICE) is not None
        assert store.get(other, device) is None

    def test_latest_wins_and_all_are_kept(self, store):
        for latency in (2.0, 1.0, 3.0):
            store.put(candidate(), DEVICE, measured(latency))
        assert store.get(candidate(), DEVICE).latency_us == 3.0
        assert [record.measurement.latency_us for record in store.records()] == [2.0, 1.0, 3.0]

    @pytest.mark.parametrize("kind", ["timeout", "crash"])
    def test_transient_errors_are_kept_but_do_not_answer(self, store, kind):
        store.put(candidate(), DEVICE, Measurement(error=kind, message="a busy machine"))
        assert store.get(candidate(), DEVICE) is None
        assert [record.measurement.error for record in store.records()] == [kind]
        store.put(candidate(), DEVICE, measured(2.0))
        store.put(candidate(), DEVICE, Measurement(error=kind, message="again"))
        assert store.get(candidate(), DEVICE).latency_us == 2.0


class TestBest:
    def test_by_median_paired_speedup(self, store):
        for tile, latency in enumerate((4.0, 2.0, 3.0)):
            store.put(candidate(tile=tile), DEVICE, measured(latency))
        best = store.best(operators.get("conv3x3"), DEVICE.fingerprint, n=2)
        assert [record.config["tile"] for record in best] == [1, 2]
        assert best[0].operator == operators.get("conv3x3")
        assert best[0].device == DEVICE
        assert (best[0].template, best[0].template_version) == ("cpu/direct_conv", 1)
        assert best[0].measurement == measured(2.0)
        assert best[0].candidate == candidate(tile=1).key

    def test_a_lucky_earlier_measurement_does_not_win(self, store):
        store.put(candidate(tile=1), DEVICE, measured(1.0))
        store.put(candidate(tile=2), DEVICE, measured(2.0))
        store.put(candidate(tile=1), DEVICE, measured(3.0))
        best = store.best(operators.get("conv3x3"), n=5)
        assert [(record.config["tile"], record.measurement.latency_us) for record in best] == [(2, 2.0), (1, 3.0)]

    def test_a_config_found_wrong_since_does_not_win(self, store):
        store.put(candidate(tile=1), DEVICE, measured(1.0))
        store.put(candidate(tile=1), DEVICE, Measurement(error="wrong_result"))
        store.put(candidate(tile=2), DEVICE, measured(2.0))
        store.put(candidate(tile=2), DEVICE, Measurement(error="crash"))
        assert [record.config["tile"] for record in store.best(operators.get("conv3x3"), n=5)] == [2]

    def test_only_measured_ones_of_this_operator_device_and_template_version(self, store):
        other = dataclasses.replace(DEVICE, name="Other CPU")
        store.put(candidate(tile=1), DEVICE, measured(4.0))
        store.put(candidate(tile=2), DEVICE, Measurement(predicted_latency_us=0.1))
        store.put(candidate(tile=3), other, measured(1.0))
        store.put(candidate("conv1x1", tile=4), DEVICE, measured(1.0))
        store.put(candidate(tile=5, version=2), DEVICE, measured(2.0))
        conv = operators.get("conv3x3")
        assert [r.config["tile"] for r in store.best(conv, n=9)] == [3, 5, 1]
        assert [r.config["tile"] for r in store.best(conv, DEVICE.fingerprint, n=9)] == [5, 1]
        only = {"cpu/direct_conv": 1, "cpu/gemm": 2}
        assert [r.config["tile"] for r in store.best(conv, DEVICE.fingerprint, n=9, templates=only)] == [1]
        assert store.best(conv, templates={}) == []
        assert store.best(operators.get("gemv")) == []

    def test_predictions_on_request_and_then_nothing_measured(self, store):
        store.put(candidate(tile=1), DEVICE, measured(1.0))
        for tile, (latency, baseline) in enumerate([(3.0, None), (4.0, 6.0), (2.0, None), (5.0, 10.0)], start=2):
            prediction = Measurement(predicted_latency_us=latency, predicted_baseline_us=baseline)
            store.put(candidate(tile=tile), DEVICE, prediction)
        conv = operators.get("conv3x3")
        assert [record.config["tile"] for record in store.best(conv, n=9, predicted=True)] == [5, 3, 4, 2]
        assert [record.config["tile"] for record in store.best(conv, n=9)] == [1]

    def test_without_a_baseline_by_latency(self, store):
        for tile, (latency, baseline) in enumerate([(3.0, None), (2.0, None), (9.0, 8.0)]):
            store.put(candidate(tile=tile), DEVICE, measured(latency, baseline))
        assert [r.config["tile"] for r in store.best(operators.get("conv3x3"), n=3)] == [2, 1, 0]


class TestRecords:
    def test_filters(self, store):
        store.put(candidate(tile=1), DEVICE, measured(1.0))
        store.put(candidate(tile=2), dataclasses.replace(DEVICE, threads=2), measured(1.0))
        store.put(candidate("gemm", template="cpu/gemm", tile=3), DEVICE, Measurement(error="timeout"))
        store.put(candidate("gemm", template="cpu/gemm", tile=4), DEVICE, Measurement(predicted_latency_us=1.0))

        def tiles(**filters):
            found = [record.config["tile"] for record in store.records(**filters)]
            assert store.count(**filters) == len(found)
            assert [record.config["tile"] for record in store.records(**filters, newest_first=True)] == found[::-1]
            return found

        assert tiles() == [1, 2, 3, 4]
        assert tiles(operators=[operators.get("gemm")]) == [3, 4]
        assert tiles(operators=[]) == []
        assert tiles(devices=[DEVICE.fingerprint]) == [1, 3, 4]
        assert tiles(template="cpu/direct_conv", devices=[DEVICE.fingerprint]) == [1]
        assert [tiles(outcome=outcome) for outcome in ("measured", "predicted", "failed", "timeout", "crash")] == [
            [1, 2],
            [4],
            [3],
            [3],
            [],
        ]
        with pytest.raises(UserError, match=r"unknown outcome 'fine'.*measured"):
            tiles(outcome="fine")

    def test_pages_follow_each_other(self, store, monkeypatch):
        monkeypatch.setattr("wpk_envs.records.store._PAGE", 3)
        for tile in range(10):
            store.put(candidate(tile=tile), DEVICE, measured(1.0))
        assert [record.config["tile"] for record in store.records()] == list(range(10))
        assert [record.config["tile"] for record in store.records(newest_first=True)] == list(range(9, -1, -1))

    def test_created_is_utc_and_operators_and_devices_are_listed(self, store):
        store.put(candidate(), DEVICE, measured(1.0))
        (record,) = store.records()
        assert record.created.endswith("+00:00")
        assert store.devices() == {DEVICE.fingerprint: DEVICE}
        assert store.operators() == [operators.get("conv3x3")]


class TestPlace:
    def test_argument_then_variable_then_user_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WPK_STORE", str(tmp_path / "variable.sqlite"))
        assert Store(tmp_path / "argument.sqlite").path == tmp_path / "argument.sqlite"
        assert Store().path == tmp_path / "variable.sqlite"
        monkeypatch.delenv("WPK_STORE")
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
        if sys.platform == "linux":
            assert default_path() == tmp_path / "home" / "wpk-envs" / "records.sqlite"
            assert Store().path.is_file()

    def test_keeps_a_write_ahead_log_and_a_version(self, store):
        with sqlite3.connect(store.path) as raw:
            assert raw.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            assert raw.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
        raw.close()


class TestProcesses:
    def test_several_writers_at_once_on_a_new_file(self, tmp_path):
        path = tmp_path / "records.sqlite"
        writers = [writer(path, worker, 60) for worker in range(4)]
        assert [process.communicate(timeout=60)[1] for process in writers] == [""] * 4
        with Store(path) as store:
            kept = [(record.config["worker"], record.config["number"]) for record in store.records()]
        assert sorted(kept) == [(worker, number) for worker in range(4) for number in range(60)]
        for worker in range(4):
            assert [number for who, number in kept if who == worker] == list(range(60))

    @pytest.mark.parametrize("enough", [1, 40, 150])
    def test_kill_loses_nothing_that_was_kept(self, tmp_path, enough):
        path = tmp_path / "records.sqlite"
        process = writer(path, 0, 10**6)
        told = [int(process.stdout.readline()) for _ in range(enough)]
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.communicate(timeout=30)[0].splitlines() if line.strip()]
        with Store(path) as store:
            numbers = [record.config["number"] for record in store.records()]
            assert numbers[: len(told)] == told
            assert numbers == list(range(len(numbers)))
            store.put(candidate(after="kill"), DEVICE, measured(1.0))
            assert store.get(candidate(after="kill"), DEVICE) is not None
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        raw.close()

    def test_threads_share_a_store(self, store):
        def put(worker: int) -> None:
            for number in range(20):
                store.put(candidate(worker=worker, number=number), DEVICE, measured(1.0))

        threads = [threading.Thread(target=put, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(1 for _ in store.records()) == 80

    def test_pickled_and_reopened(self, store):
        store.put(candidate(), DEVICE, measured(2.0))
        copy = pickle.loads(pickle.dumps(store))
        assert copy.get(candidate(), DEVICE) == measured(2.0)
        copy.close()
        copy.close()
        assert copy.get(candidate(), DEVICE) == measured(2.0)
        copy.close()

    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
    def test_a_forked_child_has_its_own_connection(self, store):
        store.put(candidate(who="parent"), DEVICE, measured(2.0))
        child = multiprocessing.get_context("fork").Process(
            target=store.put, args=(candidate(who="child"), DEVICE, measured(1.0))
        )
        child.start()
        child.join(30)
        assert child.exitcode == 0
        store.put(candidate(who="parent again"), DEVICE, measured(2.0))
        assert [record.config["who"] for record in store.records()] == ["parent", "child", "parent again"]


NOT_WRITABLE = """
import os, sys
from tests.store_samples import DEVICE, candidate, measured
from wpk_envs.errors import UserError
from wpk_envs.records import Store
if os.geteuid() == 0:
    os.setuid(65534)  # permissions do not bind root
try:
    store = Store(sys.argv[1])
    print("reads", len(list(store.records())))
    store.put(candidate(), DEVICE, measured(1.0))
except UserError as error:
    print(error)
"""

FULL = """
import resource, sys
from tests.store_samples import DEVICE, candidate, measured
from wpk_envs.errors import UserError
from wpk_envs.records import Store
store = Store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
try:
    for number in range(10**6):
        store.put(candidate(number=number), DEVICE, measured(1.0, samples=50))
except UserError as error:
    print(number, error)
"""


class TestBadFiles:
    def test_newer_version_is_refused_and_left_alone(self, tmp_path):
        path = tmp_path / "records.sqlite"
        with Store(path) as store:
            store.put(candidate(), DEVICE, measured(1.0))
        with sqlite3.connect(path) as raw:
            raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        raw.close()
        before = path.read_bytes()
        with pytest.raises(UserError, match=f"has version {SCHEMA_VERSION + 1}, .* up to {SCHEMA_VERSION}; update"):
            Store(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == [path.name]

    def test_a_store_of_version_1_is_upgraded_in_place(self, tmp_path):
        path = tmp_path / "old.sqlite"
        with sqlite3.connect(path) as raw:
            raw.executescript(VERSION_1)
        raw.close()
        with Store(path) as store:
            (old,) = store.records()
            assert old.measurement == Measurement(
                samples_us=(2.0, 2.5), baseline_us=(4.0, 5.0), baseline_name="onednn blocked", layouts={"x": "NCHW"}
            )
            store.put(candidate(tile=2), DEVICE, dataclasses.replace(measured(1.0), details={"registers": 32}))
        with Store(path) as store:
            assert [record.measurement.details for record in store.records()] == [{}, {"registers": 32}]
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
        raw.close()

    def test_a_store_of_version_2_is_upgraded_in_place(self, tmp_path):
        path = tmp_path / "old.sqlite"
        with sqlite3.connect(path) as raw:
            raw.executescript(VERSION_2)
        raw.close()
        new = Measurement(predicted_latency_us=2.0, predicted_baseline_us=5.0)
        with Store(path) as store:
            store.put(candidate(tile=3), DEVICE, new)
        with Store(path) as store:
            first, second, third = (record.measurement for record in store.records())
        assert (first.latency_us, first.details) == (2.25, {"registers": 32})
        assert second == Measurement(predicted_latency_us=3.0, confidence="low")
        assert third == new
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
            columns = "latency_us, speedup, predicted_latency_us, predicted_baseline_us, predicted_speedup"
            assert raw.execute(f"SELECT {columns} FROM records").fetchall() == [
                (2.25, 2.0, None, None, None),
                (None, None, 3.0, None, None),
                (None, None, 2.0, 5.0, 2.5),
            ]
        raw.close()

    @pytest.mark.parametrize("earlier", [VERSION_1, VERSION_2])
    def test_several_processes_may_upgrade_at_once(self, tmp_path, earlier):
        path = tmp_path / "old.sqlite"
        with sqlite3.connect(path) as raw:
            raw.executescript(earlier)
        raw.close()
        writers = [writer(path, worker, 5) for worker in range(3)]
        assert [process.communicate(timeout=60)[1] for process in writers] == [""] * 3
        with Store(path) as store:
            assert store.count() == earlier.count('INSERT INTO "records"') + 3 * 5

    def test_database_of_another_program_is_left_alone(self, tmp_path):
        path = tmp_path / "photos.sqlite"
        with sqlite3.connect(path) as raw:
            raw.execute("CREATE TABLE photos (name TEXT)")
        raw.close()
        before = path.read_bytes()
        with pytest.raises(UserError, match="is a database of another program"):
            Store(path)
        assert path.read_bytes() == before

    def test_no_database_at_all(self, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("Buy milk. " * 1000)
        with pytest.raises(UserError, match=r"notes.txt' is no SQLite file.*WPK_STORE"):
            Store(path)
        assert path.read_text() == "Buy milk. " * 1000

    def test_damaged_in_the_middle(self, tmp_path):
        path = tmp_path / "records.sqlite"
        with Store(path) as store:
            for number in range(200):
                store.put(candidate(number=number), DEVICE, measured(1.0))
        data = bytearray(path.read_bytes())
        data[8192:-4096] = os.urandom(len(data) - 8192 - 4096)
        path.write_bytes(data)
        with pytest.raises(UserError, match="is damaged"):
            list(Store(path).records())

    def test_an_empty_file_becomes_a_store(self, tmp_path):
        path = tmp_path / "records.sqlite"
        path.touch()
        with Store(path) as store:
            store.put(candidate(), DEVICE, measured(1.0))
            assert store.get(candidate(), DEVICE) == measured(1.0)

    def test_a_folder_or_a_path_through_a_file(self, tmp_path):
        with pytest.raises(UserError, match="cannot be opened"):
            Store(tmp_path)
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot be made"):
            Store(tmp_path / "file" / "records.sqlite")

    def test_read_only_folder(self):
        with tempfile.TemporaryDirectory() as name:
            folder, path = Path(name), Path(name) / "records.sqlite"
            with Store(path) as store:
                store.put(candidate(), DEVICE, measured(1.0))
            path.chmod(0o444)
            folder.chmod(0o555)
            made = run_python(NOT_WRITABLE, folder / "new.sqlite")
            existing = run_python(NOT_WRITABLE, path)
            folder.chmod(0o755)
        assert made.stderr == existing.stderr == ""
        assert made.stdout.startswith(f"the store '{folder}/new.sqlite' cannot be opened; ")
        last = existing.stdout.splitlines()[-1]
        assert last.startswith(f"the store '{path}' ")
        assert "read-only" in last or "cannot be opened" in last

    @pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file size limit here")
    def test_a_full_disk_keeps_what_was_written(self, tmp_path):
        path = tmp_path / "records.sqlite"
        result = run_python(FULL, path)
        assert result.stderr == ""
        number, sentence = result.stdout.split(" ", 1)
        assert sentence.startswith(f"the store '{path}' cannot ")
        assert int(number) > 5
        with Store(path) as store:
            assert [record.config["number"] for record in store.records()] == list(range(int(number)))


class TestAdd:
    def test_records_of_another_store_are_kept_once(self, store, tmp_path):
        with Store(tmp_path / "other.sqlite") as other:
            for tile, measurement in enumerate((measured(2.0), Measurement(error="timeout"), measured(3.0))):
                other.put(candidate(tile=tile), DEVICE, measurement)
            records = list(other.records())
        assert store.add(records[:2]) == 2
        assert store.add([*records, records[2]]) == 1
        assert [dataclasses.replace(record, id=0) for record in store.records()] == [
            dataclasses.replace(record, id=0) for record in records
        ]
        assert store.get(candidate(tile=2), DEVICE) == measured(3.0)

    def test_another_measurement_of_the_same_second_is_another_record(self, store):
        store.put(candidate(), DEVICE, measured(2.0))
        (record,) = store.records()
        assert store.add([dataclasses.replace(record, measurement=measured(2.5))]) == 1
        assert store.add([record]) == 0

    def test_another_prediction_of_the_same_second_is_another_record(self, store):
        store.put(candidate(), DEVICE, Measurement(predicted_latency_us=2.0))
        (record,) = store.records()
        assert store.add([record, dataclasses.replace(record, measurement=Measurement(predicted_latency_us=3.0))]) == 1

    def test_all_or_nothing(self, store):
        store.put(candidate(), DEVICE, measured(2.0))
        (record,) = store.records()

        def interrupted():
            yield dataclasses.replace(record, created="2026-01-01T00:00:00+00:00")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.add(interrupted())
        assert store.count() == 1


class TestExport:
    @pytest.fixture
    def records(self, store):
        details = {"registers": 64, "clocks": [{"sm_mhz": 1980}]}
        store.put(candidate(tile=1, order="oc_outer"), DEVICE, dataclasses.replace(measured(2.0), details=details))
        store.put(candidate("gemm", tile=2), DEVICE, Measurement(error="wrong_result", max_error=float("nan")))
        prediction = Measurement(predicted_latency_us=3.0, predicted_baseline_us=6.0, confidence="low: few blocks")
        store.put(candidate(tile=3), DEVICE, prediction)
        return list(store.records())

    def check(self, rows, records):
        assert [row["id"] for row in rows] == [record.id for record in records]
        for row, record in zip(rows, records):
            label = row["operator"].pop("label")
            assert label == record.operator.label
            assert operators.from_dict(row["operator"]) == record.operator
            assert row["device"].pop("fingerprint") == DEVICE.fingerprint
            assert DeviceInfo(**row["device"]) == DEVICE
            assert row["config"] == record.config
            assert tuple(row["samples_us"]) == record.measurement.samples_us
            assert tuple(row["baseline_us"]) == record.measurement.baseline_us
            for name in (
                "predicted_latency_us",
                "predicted_baseline_us",
                "predicted_speedup",
                "confidence",
                "error",
                "message",
                "build_seconds",
                "latency_us",
                "speedup",
                "details",
            ):
                assert row[name] == getattr(record.measurement, name)
        assert (rows[2]["latency_us"], rows[2]["speedup"], rows[2]["predicted_speedup"]) == (None, None, 2.0)
        assert rows[1]["max_error"] is None

    def test_json_lines(self, records, tmp_path):
        assert export(records, tmp_path / "new" / "all.jsonl") == 3
        lines = (tmp_path / "new" / "all.jsonl").read_text().splitlines()
        self.check([json.loads(line) for line in lines], records)

    def test_parquet(self, records, tmp_path):
        assert export(records, tmp_path / "all.parquet") == 3
        rows = pq.read_table(tmp_path / "all.parquet").to_pylist()
        assert list(rows[0]) == list(records[0].to_dict())
        for row in rows:
            row.update({name: json.loads(row[name]) for name in ("operator", "config", "device", "layouts", "details")})
        self.check(rows, records)

    @pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
    def test_nothing_to_export(self, tmp_path, suffix):
        assert export([], tmp_path / f"none.{suffix}") == 0
        assert (tmp_path / f"none.{suffix}").exists()

    def test_whole_or_not_at_all(self, records, tmp_path):
        target = tmp_path / "all.jsonl"
        target.write_text("before")

        def interrupted():
            yield records[0]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(interrupted(), target)
        assert target.read_text() == "before"
        assert [path.name for path in tmp_path.glob("*all*")] == ["all.jsonl"]

    def test_unknown_format(self, tmp_path):
        with pytest.raises(UserError, match=r"end the file's name in \.jsonl or \.parquet"):
            export([], tmp_path / "all.csv")

    def test_not_writable(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"cannot write '.*all\.jsonl': .*; name a file"):
            export([], tmp_path / "file" / "all.jsonl")

"""Recorded tables: what is written is read again, and a file that is not whole is refused."""

import dataclasses
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.store_samples import DEVICE, candidate, measured
from wpk_envs import operators
from wpk_envs.core import Measurement
from wpk_envs.errors import UserError
from wpk_envs.records import Record, Store, read_table, write_table
from wpk_envs.records.table import KEY, _checksum

PROTOCOL = {"protocol": "cold", "tf32": False}


@pytest.fixture
def records(tmp_path) -> list[Record]:
    """Records of two operators, as a store gives them."""
    with Store(tmp_path / "records.sqlite") as store:
        details = {"registers": 64, "spill_bytes": 0, "hot": {"latency_us": 1.5}}
        store.put(candidate(tile=1), DEVICE, dataclasses.replace(measured(2.0), details=details))
        store.put(candidate("gemm", tile=2), DEVICE, measured(3.0, baseline=None))
        store.put(candidate("gemm", tile=3), DEVICE, Measurement(error="compile", message="no"))
        return list(store.records())


def test_reads_what_was_written(tmp_path, records):
    sheet = write_table(tmp_path / "new" / "table.parquet", records, PROTOCOL, [{"bundle": "0f"}])
    table = read_table(tmp_path / "new" / "table.parquet")
    assert list(table.records) == records
    assert table.datasheet == sheet
    assert table.device == DEVICE


def test_the_datasheet_says_what_is_in_it(tmp_path, records):
    sheet = write_table(tmp_path / "table.parquet", records, PROTOCOL, [{"bundle": "0f"}])
    assert sheet["counts"] == {"rows": 3, "measured": 2, "compile": 1}
    assert sheet["protocol"] == PROTOCOL
    assert sheet["sources"] == [{"bundle": "0f"}]
    assert sheet["dates"] == [records[0].created, records[-1].created]
    assert sheet["fingerprint"] == DEVICE.fingerprint
    assert [operators.from_dict(each).label for each in sheet["operators"].values()] == [
        operators.get("conv3x3").label,
        operators.get("gemm").label,
    ]
    assert sheet["noise"] == pytest.approx(1 / 128, rel=0.01)  # the samples' own spread


def test_other_programs_can_read_it(tmp_path, records):
    write_table(tmp_path / "table.parquet", records, PROTOCOL)
    rows = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert [row["registers"] for row in rows] == [64, None, None]
    assert json.loads(rows[0]["config"]) == records[0].config
    assert (rows[0]["latency_us"], rows[0]["speedup"]) == (2.0, 4.0)


def test_predictions_have_columns_of_their_own(tmp_path):
    prediction = Measurement(predicted_latency_us=3.0, predicted_baseline_us=6.0, confidence="high")
    with Store(tmp_path / "records.sqlite") as store:
        store.put(candidate(tile=1), DEVICE, prediction)
        records = list(store.records())
    sheet = write_table(tmp_path / "table.parquet", records, {"protocol": "predicted"})
    assert sheet["counts"] == {"rows": 1, "measured": 0, "predicted": 1}
    assert read_table(tmp_path / "table.parquet").records[0].measurement == prediction
    (row,) = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert (row["predicted_latency_us"], row["predicted_speedup"]) == (3.0, 2.0)
    assert (row["latency_us"], row["speedup"], row["samples_us"], row["baseline_us"]) == (None, None, [], [])


def test_tables_from_before_predicted_baselines_are_read(tmp_path, records):
    path = tmp_path / "table.parquet"
    sheet = write_table(path, records, PROTOCOL)
    older = pq.read_table(path).drop_columns(["predicted_baseline_us", "predicted_speedup"])
    sheet["sha256"] = _checksum(older, sheet)
    pq.write_table(older.replace_schema_metadata({KEY: json.dumps(sheet)}), path)
    assert list(read_table(path).records) == records


def test_records_of_several_devices_are_no_table(tmp_path, records):
    other = dataclasses.replace(records[0], device=dataclasses.replace(DEVICE, name="Other"))
    with pytest.raises(ValueError, match="unpack"):
        write_table(tmp_path / "table.parquet", [*records, other], PROTOCOL)


def test_any_damage_is_found(tmp_path, records):
    path = tmp_path / "table.parquet"
    write_table(path, records, PROTOCOL)
    whole, rng = path.read_bytes(), random.Random(0)
    expected = read_table(path)
    refused = 0
    for _ in range(300):
        position = rng.randrange(len(whole))
        flipped = bytes([whole[position] ^ (1 << rng.randrange(8))])
        path.write_bytes(whole[:position] + flipped + whole[position + 1 :])
        try:
            assert read_table(path) == expected  # in a part of the file that says nothing
        except UserError:
            refused += 1
    assert 100 < refused < 300


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no table"),
        (b"", "is damaged or no Parquet file"),
        (b"PAR1 and more", "is damaged or no Parquet file"),
        (pa.table({"x": [1]}), "is no table of measurements"),
        (pa.table({"x": [1]}).replace_schema_metadata({KEY: "{"}), "is no table of measurements"),
        (pa.table({"x": [1]}).replace_schema_metadata({KEY: '{"format": 2}'}), "has format 2, this version reads 1"),
        (pa.table({"x": [1]}).replace_schema_metadata({KEY: '{"format": 1}'}), "checksum differs"),
    ],
)
def test_what_is_no_table_is_a_sentence(tmp_path, content, sentence):
    path = tmp_path / "table.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        pq.write_table(content, path)
    with pytest.raises(UserError, match=sentence):
        read_table(path)


def test_a_disk_that_refuses_is_a_sentence(tmp_path, records):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write '.*table\.parquet'"):
        write_table(tmp_path / "file" / "table.parquet", records, PROTOCOL)

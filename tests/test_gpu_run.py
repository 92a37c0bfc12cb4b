"""``python -m experiments.run device=cuda``, whole: on an interpreted GPU, and where there is one on a real one."""

import json

import pytest

from experiments.launcher import run_program
from experiments.run import run
from experiments.settings import settings_of
from tests.test_descriptions import REPORTED
from wpk_envs import devices
from wpk_envs.devices.cuda.live import CudaDevice
from wpk_envs.records import Store

SMALL = ["op=gemm", "op.m=33", "op.n=40", "op.k=24", "algo=random", "budget.trials=2", "logger=none"]


def start(folder, *arguments):
    assert run_program("run", run, settings_of, [*arguments, f"hydra.run.dir={folder}/run"]) == 0
    return json.loads((folder / "run" / "summary.json").read_text())


@pytest.fixture
def apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    return tmp_path


def test_on_an_interpreted_gpu(apart, monkeypatch, capsys):
    def open_device(name, **settings):
        given = {key: value for key, value in settings.items() if value is not None}
        return CudaDevice(**given, gpu="tests.interpreted_gpu:NoVendorGpu")

    monkeypatch.setattr(devices, "open_device", open_device)
    summary = start(apart, "device=cuda", "device.workers=1", *SMALL)
    out = capsys.readouterr().out
    assert "device=cuda: Interpreted GPU without a vendor, cold caches" in out
    assert "note: the GPU's limits are what its driver tells" in out
    assert "speedups will be missing, and the search goes by latency" in out
    assert (summary["device"], summary["trials"], summary["speedup"]) == ("cuda", 2, None)
    assert summary["latency_us"] > 0
    assert summary["details"]["registers"] > 0
    assert "blockIdx" in (apart / "run" / "best_schedule.py").read_text()
    with Store() as store:
        (device,) = store.devices().values()
        assert device.limits.keys() >= REPORTED.properties.keys()
        assert all(record.template.startswith("cuda/") for record in store.records())


@pytest.mark.gpu
def test_on_a_real_gpu(apart):
    summary = start(apart, "device=cuda", *SMALL)
    assert summary["device"] == "cuda"
    assert summary["latency_us"] > 0

"""GPUs by name, and the GPU at hand."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys

import pytest

from wpk_envs.devices.cuda import descriptions, presence, toolchain
from wpk_envs.devices.cuda.gpu import GpuInfo
from wpk_envs.errors import UserError

PEAK_TFLOPS = {
    "gtx_1080_ti": 11.34,
    "titan_rtx": 16.3,
    "p100": 9.5,
    "p100_sxm2": 10.6,
    "v100": 15.7,
    "v100_pcie": 14.1,
    "t4": 8.1,
    "a100": 19.5,
    "a100_80gb": 19.5,
    "h100": 66.9,
    "h100_pcie": 51.2,
    "h200": 66.9,
}
"""Float32, as NVIDIA's data sheets have it at boost clock."""


class TestNamed:
    def test_names(self):
        assert set(descriptions.names()) == set(PEAK_TFLOPS)

    @pytest.mark.parametrize("name", PEAK_TFLOPS)
    def test_numbers_give_the_data_sheets_peak(self, name):
        limits = descriptions.describe(name).limits
        lanes = limits["multiprocessors"] * limits["fp32_lanes_per_sm"]
        assert lanes * 2 * limits["clock_mhz"] / 1e6 == pytest.approx(PEAK_TFLOPS[name], rel=0.01)

    @pytest.mark.parametrize("name", PEAK_TFLOPS)
    def test_every_number_is_there_and_can_be(self, name):
        info = descriptions.describe(name)
        assert info.kind == "cuda"
        assert tuple(info.limits) == descriptions.LIMITS
        assert info.limits["shared_bytes_per_block"] == 48 << 10 < info.limits["shared_bytes_per_sm"]
        assert info.limits["threads_per_block"] <= info.limits["threads_per_sm"]
        assert all(0 < feature <= 1 for feature in info.features().values())
        assert set(info.versions) == {"tvm", "nvrtc"}
        toolchain.check_arch(info.target["arch"])

    def test_tvm_takes_every_target(self):
        from tvm.target import Target

        for name in descriptions.names():
            target = descriptions.describe(name).target
            assert Target(dict(target)).attrs["arch"] == target["arch"]

    def test_boards_of_one_processor_differ_in_what_their_file_says(self):
        pcie, sxm = (descriptions.describe(name).limits for name in ("p100", "p100_sxm2"))
        assert {key for key in pcie if pcie[key] != sxm[key]} == {"clock_mhz"}

    def test_any_number_can_be_changed(self):
        half = descriptions.describe("h200", multiprocessors=66)
        assert half.limits["multiprocessors"] == 66
        assert half.limits["l2_bytes"] == descriptions.describe("h200").limits["l2_bytes"]
        assert half.fingerprint != descriptions.describe("h200").fingerprint

    @pytest.mark.parametrize(
        ("name", "changes", "sentence"),
        [
            ("p1000", {}, r"unknown GPU 'p1000'; did you mean p100"),
            ("p100", {"sms": 3}, "unknown number of device p100 'sms'"),
            ("p100", {"multiprocessors": 0}, "device.multiprocessors must be a whole number of at least 1, not 0"),
            ("p100", {"l2_bytes": 1.5}, "device.l2_bytes must be a whole number"),
            ("p100", {"arch": "pascal"}, "written like sm_60, not 'pascal'"),
            ("p100", {"arch": "sm_52"}, "sm_52 is too old"),
        ],
    )
    def test_mistakes_are_sentences(self, name, changes, sentence):
        with pytest.raises(UserError, match=sentence):
            descriptions.describe(name, **changes)


REPORTED = GpuInfo(
    model="NVIDIA Somewhat 3000",
    arch="sm_86",
    properties={
        "multiprocessors": 28,
        "threads_per_block": 1024,
        "threads_per_sm": 1536,
        "blocks_per_sm": 16,
        "registers_per_sm": 65536,
        "shared_bytes_per_block": 49152,
        "shared_bytes_per_sm": 102400,
        "l2_bytes": 2359296,
        "clock_mhz": 1777,
        "memory_gbps": 360,
    },
    versions={"driver": "12.8", "torch": "2.9.0", "cudnn": "91002"},
)


class TestUsable:
    def test_nothing_heavy_is_imported_to_find_no_gpu(self):
        code = (
            "import sys; from wpk_envs.devices.cuda import presence; presence.gpu_count = lambda: 0;"
            "assert not presence.usable(); print(*{'torch', 'tvm', 'cuda.bindings'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("\n", "")

    def test_a_gpu_that_torch_cannot_use_is_none(self, monkeypatch):
        monkeypatch.setattr(presence, "gpu_count", lambda: 1)
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert not presence.usable.__wrapped__()

    @pytest.mark.parametrize(("capability", "usable"), [((6, 0), True), ((9, 0), True), ((5, 2), False)])
    def test_a_gpu_that_the_toolchain_compiles_for_is_usable(self, monkeypatch, capability, usable):
        monkeypatch.setattr(presence, "gpu_count", lambda: 1)
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda index: capability)
        assert presence.usable.__wrapped__() is usable


class TestPresent:
    @pytest.mark.parametrize(
        ("model", "arch", "multiprocessors", "name"),
        [
            ("Tesla P100-PCIE-16GB", "sm_60", 56, "p100"),
            ("Tesla P100-SXM2-16GB", "sm_60", 56, "p100_sxm2"),
            ("Tesla V100-SXM2-32GB", "sm_70", 80, "v100"),
            ("Tesla T4", "sm_75", 40, "t4"),
            ("A100-SXM4-40GB", "sm_80", 108, "a100"),
            ("NVIDIA A100-SXM4-80GB", "sm_80", 108, "a100_80gb"),
            ("NVIDIA H100 80GB HBM3", "sm_90", 132, "h100"),
            ("NVIDIA H100 PCIe", "sm_90", 114, "h100_pcie"),
            ("NVIDIA H200", "sm_90", 132, "h200"),
            ("NVIDIA H200", "sm_90", 16, None),  # a part of one
            ("NVIDIA H200 NVL", "sm_90", 132, None),
            ("NVIDIA GeForce GTX 1080 Ti", "sm_61", 28, "gtx_1080_ti"),
            ("NVIDIA TITAN RTX", "sm_75", 72, "titan_rtx"),
            ("NVIDIA GeForce RTX 3090", "sm_86", 82, None),
        ],
    )
    def test_match(self, model, arch, multiprocessors, name):
        assert descriptions.match(model, arch, multiprocessors) == name

    def test_a_described_gpu_has_its_descriptions_limits(self):
        properties = {**REPORTED.properties, "multiprocessors": 132, "clock_mhz": 1}
        info = descriptions.present(
            dataclasses.replace(REPORTED, model="NVIDIA H200", arch="sm_90", properties=properties)
        )
        assert info.limits == descriptions.describe("h200").limits
        assert info.target == descriptions.describe("h200").target
        assert info.versions.items() >= {**descriptions.build_versions(), **REPORTED.versions}.items()
        assert info.fingerprint != descriptions.describe("h200").fingerprint

    def test_another_gpu_has_what_its_driver_tells_and_that_is_said(self, caplog):
        with caplog.at_level(logging.INFO):
            info = descriptions.present(REPORTED)
        assert "NVIDIA Somewhat 3000: its limits are the driver's" in caplog.text
        assert info.limits.items() >= REPORTED.properties.items()
        assert (info.limits["registers_per_thread"], info.limits["fp32_lanes_per_sm"]) == (255, 128)
        assert info.target["arch"] == "sm_86"

    def test_records_of_another_way_of_timing_or_building_do_not_answer(self):
        ways = [{}, {"protocol": "hot"}, {"built_with": {"tvm": "0.27", "nvrtc": "12.8"}}]
        assert len({descriptions.present(REPORTED, **way).fingerprint for way in ways}) == 3

    @pytest.mark.parametrize(("arch", "sentence"), [("sm_52", "too old"), ("sm_130", "does not compile for sm_130")])
    def test_a_gpu_that_the_toolchain_does_not_compile_for_is_a_sentence(self, arch, sentence):
        gpu = dataclasses.replace(REPORTED, arch=arch)
        with pytest.raises(UserError, match=sentence):
            descriptions.present(gpu)
        assert descriptions.present(gpu, built_with={"nvrtc": "14.0"}).target["arch"] == arch

    @pytest.mark.parametrize("name", PEAK_TFLOPS)
    def test_lanes_by_architecture(self, name):
        described = descriptions.fields(name)
        assert descriptions.fp32_lanes(described["arch"]) == described["fp32_lanes_per_sm"]

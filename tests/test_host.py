"""What is read of the host, for this one and for others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from wpk_envs import tvm_adapter
from wpk_envs.devices import host
from wpk_envs.errors import UserError

AVX512 = {"avx", "avx2", "fma", "avx512f", "avx512vl"}


def test_this_host_is_described():
    info = host.cpu_info()
    assert info.kind == "cpu"
    assert info.name
    assert info.target["kind"] == "llvm"
    assert info.target["mcpu"] == tvm_adapter.host_cpu()
    assert info.target["opt-level"] == 2
    assert tvm_adapter.accepts(info.target)
    assert set(info.limits) == {"vector_lanes", "vector_registers", "l1_bytes", "l2_bytes", "l3_bytes"}
    assert info.limits["l1_bytes"] <= info.limits["l2_bytes"]
    assert set(info.versions) == {"tvm", "torch", "onednn"}
    assert info.versions["onednn"].count(".") == 2
    assert info.fingerprint == host.cpu_info().fingerprint


@pytest.mark.parametrize(
    ("architecture", "flags", "unit"),
    [
        ("x86_64", AVX512, (16, 32)),
        ("amd64", {"avx", "avx2", "fma"}, (8, 16)),
        ("x86_64", {"avx", "avx2"}, (4, 16)),
        ("x86_64", {"sse2"}, (4, 16)),
        ("aarch64", set(), (4, 32)),
        ("arm64", {"asimd"}, (4, 32)),
    ],
)
def test_vector_units(architecture, flags, unit):
    assert host.vector_unit(architecture, flags) == unit


def test_an_unknown_architecture_has_no_target():
    with pytest.raises(UserError, match="no compiler target for a riscv64 host"):
        host.vector_unit("riscv64", set())


def test_a_compiler_without_the_host_is_a_sentence(monkeypatch):
    monkeypatch.setattr(tvm_adapter, "accepts", lambda target: False)
    with pytest.raises(UserError, match="no compiler target for this host"):
        host.llvm_target("x86_64", AVX512)


def test_attributes_name_what_is_there_and_what_is_not():
    attributes = host.x86_attributes(AVX512)
    assert {"+avx512f", "+avx512vl", "-avx512bw", "-prefer-256-bit"} <= set(attributes)
    assert "-prefer-256-bit" not in host.x86_attributes({"avx2"})
    assert "-avx512f" in host.x86_attributes({"avx2"})


def test_an_arm_target_names_its_platform(monkeypatch):
    monkeypatch.setattr(tvm_adapter, "host_cpu", lambda: "neoverse-n1")
    monkeypatch.setattr(tvm_adapter, "host_triple", lambda: "aarch64-unknown-linux-gnu")
    target = host.llvm_target("aarch64", set())
    assert target["mtriple"] == "aarch64-unknown-linux-gnu"
    assert target["mattr"] == ["+neon"]


def test_nonsense_is_not_a_target():
    assert not tvm_adapter.accepts({"kind": "llvmm"})
    assert not tvm_adapter.accepts({"kind": "llvm", "colour": "blue"})


def test_cores_follow_the_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7})
    assert host.available_cores() <= 3


def test_caches_fall_back_where_the_host_tells_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "_CPU_SYSFS", tmp_path)
    assert host.cache_bytes.__wrapped__() == host.TYPICAL_CACHES


def test_caches_are_read_by_level(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "_CPU_SYSFS", tmp_path)
    monkeypatch.setattr(host, "_some_cpu", lambda: 2)
    for index, (kind, level, size) in enumerate([("Data", 1, "48K"), ("Instruction", 1, "64K"), ("Unified", 2, "2M")]):
        folder = tmp_path / f"cpu2/cache/index{index}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(kind + "\n")
        (folder / "level").write_text(f"{level}\n")
        (folder / "size").write_text(size + "\n")
    expected = {"l1_bytes": 48 << 10, "l2_bytes": 2 << 20, "l3_bytes": host.TYPICAL_CACHES["l3_bytes"]}
    assert host.cache_bytes.__wrapped__() == expected


def test_py_cpuinfo_stands_in_without_proc(monkeypatch, tmp_path):
    found = {"brand_raw": "Some CPU", "flags": ["avx2", "fma"]}
    monkeypatch.setattr(host, "_CPUINFO", tmp_path / "none")
    monkeypatch.setattr(host, "_py_cpuinfo", lambda: found)
    assert host.cpu_flags.__wrapped__() == {"avx2", "fma"}
    assert host.model_name.__wrapped__() == "Some CPU"


def test_opening_a_device_imports_neither_tvm_nor_torch():
    program = (
        "import sys; from wpk_envs.devices import open_device; device = open_device('cpu', workers=1); device.info;"
        "print([name for name in ('tvm', 'torch') if name in sys.modules]); device.close()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr

"""What a schedule needs to know of the CPU that this process runs on."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from wpk_envs.core import DeviceInfo
from wpk_envs.errors import UserError

X86_FEATURES = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")
"""Instruction sets that are named to the compiler one by one, present or absent: a virtual machine may hide
some that its CPU model has, and a CPU newer than the compiler has some that its name does not imply."""

TYPICAL_CACHES = {"l1_bytes": 32 << 10, "l2_bytes": 1 << 20, "l3_bytes": 16 << 20}
"""Stands in for cache sizes that a host does not tell."""

_CPU_SYSFS = Path("/sys/devices/system/cpu")
_CPUINFO = Path("/proc/cpuinfo")


def cpu_info(threads: int = 1) -> DeviceInfo:
    """Describe this host as a device (imports TVM and torch: seconds).

    Args:
        threads: Threads that one kernel will use.

    Raises:
        UserError: If there are fewer cores than threads, or TVM has no compiler target for the host.
    """
    check_threads(threads)
    architecture, flags = platform.machine().lower(), cpu_flags()
    lanes, registers = vector_unit(architecture, flags)
    return DeviceInfo(
        kind="cpu",
        name=model_name(),
        target=llvm_target(architecture, flags),
        limits={"vector_lanes": lanes, "vector_registers": registers, **cache_bytes()},
        threads=threads,
        versions=versions(),
    )


def check_threads(threads: int) -> None:
    """Raise `UserError` unless a kernel can have that many threads here."""
    cores = available_cores()
    if not isinstance(threads, int) or not 1 <= threads <= cores:
        raise UserError(f"device.threads must be a whole number from 1 to {cores} (this host's cores), not {threads}")


def available_cores() -> int:
    """Cores that this process may use: its affinity, and a container's quota if there is one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


def memory_allowance(gib: float, workers: int) -> int:
    """Bytes that each worker may take: what is asked for, less where the machine has less for all of them."""
    import psutil

    return int(min(gib * 2**30, 0.8 * psutil.virtual_memory().total / workers))


def vector_unit(architecture: str, flags: Collection[str]) -> tuple[int, int]:
    """Float32 lanes and number of vector registers of an instruction set.

    Raises:
        UserError: For an architecture that no template is written for.
    """
    if architecture in ("aarch64", "arm64"):
        return 4, 32
    if architecture not in ("x86_64", "amd64"):
        raise UserError(f"there is no compiler target for a {architecture} host (supported: x86_64, aarch64)")
    if "avx512f" in flags:
        return 16, 32
    return (8, 16) if {"avx2", "fma"} <= set(flags) else (4, 16)


def llvm_target(architecture: str, flags: Collection[str]) -> dict[str, Any]:
    """The TVM target of a host, as plain data.

    Raises:
        UserError: If this TVM cannot generate code for it.
    """
    from wpk_envs import tvm_adapter

    target: dict[str, Any] = {"kind": "llvm", "mcpu": tvm_adapter.host_cpu(), "opt-level": 2}
    if architecture in ("aarch64", "arm64"):
        target |= {"mtriple": tvm_adapter.host_triple(), "mattr": ["+neon"]}
    else:
        target["mattr"] = x86_attributes(flags)
    if not tvm_adapter.accepts(target):
        raise UserError(
            f"there is no compiler target for this host: TVM {importlib.metadata.version('apache-tvm')} does not "
            f"accept {target}; install a TVM built with LLVM for {architecture}"
        )
    return target


def x86_attributes(flags: Collection[str]) -> list[str]:
    """LLVM attributes for x86 flags; with AVX-512, whole 512-bit registers are asked for."""
    named = [f"{'+' if feature in flags else '-'}{feature}" for feature in X86_FEATURES]
    return [*named, "-prefer-256-bit"] if "avx512f" in flags else named


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction-set flags by their Linux names."""
    listed = re.search(r"^(?:flags|Features)\s*:(.*)$", _cpuinfo_text(), re.MULTILINE)
    return frozenset(listed[1].split() if listed else _py_cpuinfo().get("flags", ()))


@functools.cache
def model_name() -> str:
    """The CPU's name as the vendor prints it."""
    listed = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo_text(), re.MULTILINE)
    return listed[1].strip() if listed else str(_py_cpuinfo().get("brand_raw") or platform.machine())


def _cpuinfo_text() -> str:
    return _CPUINFO.read_text() if _CPUINFO.exists() else ""


@functools.cache
def _py_cpuinfo() -> dict[str, Any]:
    """What py-cpuinfo finds where there is no ``/proc/cpuinfo`` (it takes seconds)."""
    import cpuinfo

    return dict(cpuinfo.get_cpu_info())


@functools.cache
def cache_bytes() -> dict[str, int]:
    """Data caches that one core sees, in bytes, by the names of `DeviceInfo.limits`."""
    sizes = {}
    for index in sorted(_CPU_SYSFS.glob(f"cpu{_some_cpu()}/cache/index*")):
        if (index / "type").read_text().strip() != "Instruction":
            sizes[f"l{(index / 'level').read_text().strip()}_bytes"] = _bytes((index / "size").read_text())
    if not sizes and not _CPU_SYSFS.exists():
        found = _py_cpuinfo()
        names = {"l1_bytes": "l1_data_cache_size", "l2_bytes": "l2_cache_size", "l3_bytes": "l3_cache_size"}
        sizes = {ours: int(found[theirs]) for ours, theirs in names.items() if isinstance(found.get(theirs), int)}
    return {name: sizes.get(name, typical) for name, typical in TYPICAL_CACHES.items()}


def _some_cpu() -> int:
    return min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def _bytes(size: str) -> int:
    """The bytes of a size such as ``"48K"``."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    size = size.strip()
    return int(size[:-1]) * units[size[-1]] if size[-1] in units else int(size)


def versions() -> dict[str, str]:
    """Versions of TVM, torch and the oneDNN that torch was built with."""
    import torch

    onednn = re.search(r"MKL-DNN v([\d.]+)|oneDNN v([\d.]+)", torch.__config__.show())
    return {
        "tvm": importlib.metadata.version("apache-tvm"),
        "torch": str(torch.__version__),
        "onednn": (onednn[1] or onednn[2]) if onednn else "none",
    }

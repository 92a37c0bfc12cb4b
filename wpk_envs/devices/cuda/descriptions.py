"""GPUs by name: what kernels are compiled for where no GPU is at hand, and what the one at hand is known as.

A name is a file in ``conf/device/``, where every number has its source beside it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
import logging
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import OmegaConf

from wpk_envs.core import DeviceInfo
from wpk_envs.devices.cuda import toolchain
from wpk_envs.devices.cuda.gpu import GpuInfo
from wpk_envs.errors import UserError, unknown

LIMITS = (
    "multiprocessors",
    "threads_per_block",
    "threads_per_sm",
    "blocks_per_sm",
    "registers_per_thread",
    "registers_per_sm",
    "shared_bytes_per_block",
    "shared_bytes_per_sm",
    "l2_bytes",
    "fp32_lanes_per_sm",
    "clock_mhz",
    "memory_gbps",
)
"""The limits of a GPU, see `DeviceInfo`."""

REGISTERS_PER_THREAD = 255
FP32_LANES = {60: 64, 61: 128, 62: 128, 70: 64, 72: 64, 75: 64, 80: 64}
"""Float32 results per clock and multiprocessor, which drivers do not tell; 128 since sm_86.

Source: CUDA C++ programming guide, throughput of native arithmetic instructions."""

logger = logging.getLogger(__name__)


@functools.cache
def names() -> tuple[str, ...]:
    """Every GPU that has a description, in alphabetical order."""
    files = (each.name for each in importlib.resources.files("conf").joinpath("device").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def describe(name: str, **changes: Any) -> DeviceInfo:
    """A named GPU as a compile target; none has to be at hand.

    Args:
        name: One of `names`.
        changes: Values of ``model``, ``arch`` or a limit that replace the description's.

    Raises:
        UserError: If the name, a change or its value is not allowed, or the CUDA toolchain is missing or
            does not compile for the GPU's architecture.
    """
    described = fields(name)
    for key in changes:
        if key not in ("model", "arch", *LIMITS):
            raise unknown(f"number of device {name}", key, ("model", "arch", *LIMITS))
    chosen = {**described, **changes}
    limits = {key: _positive(f"device.{key}", chosen[key]) for key in LIMITS}
    toolchain.check_arch(str(chosen["arch"]))
    return _device(str(chosen["model"]), str(chosen["arch"]), limits, build_versions())


def build_versions() -> dict[str, str]:
    """Versions of what kernels are built with here.

    Raises:
        UserError: If the CUDA toolchain is missing.
    """
    return {"tvm": importlib.metadata.version("apache-tvm"), "nvrtc": toolchain.version()}


def match(model: str, arch: str, multiprocessors: int) -> str | None:
    """The description that fits a GPU at hand; none for an unknown board, or a part of one.

    Args:
        model: Its name, as the driver reports it.
        arch: Such as ``"sm_60"``.
        multiprocessors: How many it has.
    """
    for name in names():
        described = fields(name)
        known = described["arch"] == arch and described["multiprocessors"] == multiprocessors
        if known and any(fnmatchcase(model, pattern) for pattern in described["matches"]):
            return name
    return None


def present(gpu: GpuInfo, protocol: str = "cold", built_with: Mapping[str, str] | None = None) -> DeviceInfo:
    """The GPU at hand: with the limits of the description that fits it, else with what its driver tells.

    The protocol is one of its versions, so that what was timed by one never answers for the other.

    Args:
        gpu: What the GPU and the libraries on it say of themselves.
        protocol: Whether caches are cold or hot.
        built_with: Versions of what its kernels were compiled with; of what is installed here if none.

    Raises:
        UserError: Without ``built_with``, if the CUDA toolchain is missing or does not compile for the GPU.
    """
    if built_with is None:
        toolchain.check_arch(gpu.arch)
        built_with = build_versions()
    name = match(gpu.model, gpu.arch, gpu.properties["multiprocessors"])
    if name is not None:
        known = fields(name)
    else:
        logger.info("no description in conf/device fits %s: its limits are the driver's", gpu.model)
        lanes = fp32_lanes(gpu.arch)
        known = {**gpu.properties, "registers_per_thread": REGISTERS_PER_THREAD, "fp32_lanes_per_sm": lanes}
    limits = {key: int(known[key]) for key in LIMITS}
    return _device(gpu.model, gpu.arch, limits, {**built_with, **gpu.versions, "protocol": protocol})


def fp32_lanes(arch: str) -> int:
    """Float32 lanes of one multiprocessor of an architecture."""
    return FP32_LANES.get(int(arch.removeprefix("sm_").rstrip("a")), 128)


@functools.cache
def fields(name: str) -> dict[str, Any]:
    """Every key of a description, those it takes from another one included.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in names():
        raise unknown("GPU", name, names())
    text = importlib.resources.files("conf").joinpath("device", f"{name}.yaml").read_text(encoding="utf-8")
    own: Any = OmegaConf.to_container(OmegaConf.create(text))
    bases = [base for base in own.pop("defaults") if base in names()]
    return {key: value for base in bases for key, value in fields(base).items()} | own


def _device(model: str, arch: str, limits: Mapping[str, int], versions: Mapping[str, str]) -> DeviceInfo:
    return DeviceInfo(
        kind="cuda",
        name=model,
        target={
            "kind": "cuda",
            "arch": arch,
            "max_threads_per_block": limits["threads_per_block"],
            "max_shared_memory_per_block": limits["shared_bytes_per_block"],
            "registers_per_block": limits["registers_per_sm"],
            "thread_warp_size": 32,
        },
        limits=dict(limits),
        versions=dict(versions),
    )


def _positive(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{key} must be a whole number of at least 1, not {value}")
    return value

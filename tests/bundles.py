"""Small bundles for tests: a matrix product written by hand in CUDA, and made-up machine code."""

from __future__ import annotations

import functools
from dataclasses import replace

from wpk_envs.core import Argument, DeviceInfo, stable_hash
from wpk_envs.devices.cuda.bundle import Bundle, Entry
from wpk_envs.devices.cuda.misbehaving import misbehaving_entries
from wpk_envs.devices.cuda.program import Launch, Program, Resources
from wpk_envs.devices.cuda.toolchain import compile_source
from wpk_envs.operators import Gemm
from wpk_envs.packing import Packing

OPERATOR = Gemm(m=8, n=32, k=16)
OTHER = Gemm(m=16, n=32, k=8)

DEVICE = DeviceInfo(
    kind="cuda",
    name="Test GPU",
    target={"kind": "cuda", "arch": "sm_90"},
    limits={"multiprocessors": 4, "fp32_lanes_per_sm": 64},
)

PASCAL = DeviceInfo(
    kind="cuda",
    name="Test GPU of Pascal",
    target={"kind": "cuda", "arch": "sm_60"},
    limits={"multiprocessors": 4, "fp32_lanes_per_sm": 1 << 20, "clock_mhz": 1000, "memory_gbps": 1000},
)
"""No time of an interpreter is suspiciously fast for it."""


def program(tile: int = 1, image: bytes = b"machine code", operator: Gemm = OPERATOR, arch: str = "sm_90") -> Program:
    """A program of one launch, a thread per column and ``tile`` rows of it."""
    m, n, k = operator.m, operator.n, operator.k
    return Program(
        arch=arch,
        image=image,
        launches=(Launch("kernel", (m // tile, 1, 1), (n, 1, 1), ("a", "b", "output")),),
        arguments=(
            Argument("a", (m, k), "MK", Packing().reshape(m, k)),
            Argument("b", (k, n), "KN", Packing().reshape(k, n)),
            Argument("output", (m, n), "MN", Packing().reshape(1, m, n)),
        ),
        workspaces={},
        resources={"kernel": Resources(registers=32, shared_bytes=0, local_bytes=0, spill_bytes=0)},
    )


def entry(
    tile: int = 1, image: bytes = b"machine code", name: str = "small", operator: Gemm = OPERATOR, expected="correct"
) -> Entry:
    """An entry around `program`."""
    config = {"template": "plain", "tile": tile}
    return Entry(
        name=name,
        operator=operator,
        template="cuda/plain",
        template_version=1,
        config=config,
        candidate=stable_hash([operator.to_dict(), ["cuda/plain", 1], config]),
        tolerance=2e-5,
        executed_flops=float(operator.flops),
        program=program(tile, image, operator),
        build_seconds=0.25,
        expected=expected,
    )


def bundle(*entries: Entry, device: DeviceInfo = DEVICE, acceptance: bool = False) -> Bundle:
    """A bundle of these entries."""
    return Bundle(
        device=device,
        versions={"tvm": "0", "nvrtc": "0"},
        created="2026-01-01T00:00:00+00:00",
        seed=0,
        entries=entries,
        failed=({"name": "small", "template": "cuda/plain", "config": {}, "candidate": "0", "message": "no"},),
        acceptance=acceptance,
    )


@functools.cache
def interpretable(tile: int, operator: Gemm = OPERATOR, name: str = "small") -> Entry:
    """An entry whose image is PTX, for the interpreted GPU."""
    n, k = operator.n, operator.k
    source = f"""
        extern "C" __global__ void kernel(const float* a, const float* b, float* output) {{
          for (int row = blockIdx.x * {tile}; row < (blockIdx.x + 1) * {tile}; ++row) {{
            float total = 0.0f;
            for (int k = 0; k < {k}; ++k) total += a[row * {k} + k] * b[k * {n} + threadIdx.x];
            output[row * {n} + threadIdx.x] = total;
          }}
        }}"""
    made = entry(tile, compile_source(source, "sm_60").ptx.encode(), name, operator)
    return replace(made, program=replace(made.program, arch="sm_60"))


@functools.cache
def misbehaving() -> dict[str, Entry]:
    """The kernels that misbehave on purpose, as PTX, by what they do."""
    return {each.name: each for each in misbehaving_entries(PASCAL, "ptx")}

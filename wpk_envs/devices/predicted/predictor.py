"""From a candidate to its prediction: build, count a block of every launch, ask the model."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from wpk_envs.core import Candidate, DeviceInfo, Measurement, stable_hash
from wpk_envs.devices import ptx
from wpk_envs.devices.cuda.build import Build, build
from wpk_envs.devices.cuda.program import Launch, Program
from wpk_envs.devices.failures import gist
from wpk_envs.devices.predicted.confidence import confidence_of
from wpk_envs.devices.predicted.constants import ARCHITECTURES, LAUNCH_US, NEXT_LAUNCH_US, Architecture, Fitted
from wpk_envs.devices.predicted.model import Estimate, cycles_of, estimate
from wpk_envs.devices.ptx.counts import BlockCounts
from wpk_envs.errors import UserError, unknown

FLOAT_BYTES = 4
NOTHING = """
.version 6.0
.target sm_60
.address_size 64
.visible .entry nothing() { ret; }
"""


def prepare() -> None:
    """Take the seconds that TVM, NVRTC and the interpreter need to load, before the first candidate."""
    from wpk_envs import tvm_adapter  # noqa: F401
    from wpk_envs.devices.cuda import toolchain

    toolchain.version()
    nothing = ptx.Program(ptx.parse(NOTHING).functions["nothing"])
    nothing.count((1, 1, 1), (1, 1, 1), [], cycles_of(ARCHITECTURES["sm_60"]), blocks=[0])


def architecture_of(device: DeviceInfo) -> Architecture:
    """The constants of a device's compute capability.

    Raises:
        UserError: If the model does not know it.
    """
    arch = str(device.target["arch"])
    if arch not in ARCHITECTURES:
        raise unknown("architecture for predictions", arch, ARCHITECTURES)
    return ARCHITECTURES[arch]


def predict(candidate: Candidate, device: DeviceInfo) -> Measurement:
    """Predict a candidate's latency on a GPU that need not be here.

    Args:
        candidate: What to build for the GPU's architecture.
        device: The GPU.

    Returns:
        A prediction with its confidence and, in the details, the roofline of the algorithm; a typed error if it
        cannot be built or cannot run.

    Raises:
        UserError: If the CUDA toolchain is missing, or the model does not know the architecture.
    """
    started = time.perf_counter()
    architecture_of(device)
    try:
        built = build(candidate, device)
    except UserError:
        raise
    except Exception as error:
        return Measurement(error="compile", message=gist(error), build_seconds=time.perf_counter() - started)
    ended = time.perf_counter()
    try:
        estimates = _estimates(built, device)
    except (ptx.PtxError, ValueError) as error:
        return Measurement(
            error="compile",
            message=str(error),
            build_seconds=ended - started,
            measure_seconds=time.perf_counter() - ended,
            details=built.program.details(),
        )
    return Measurement(
        predicted_latency_us=latency_us(estimates),
        confidence=confidence_of(estimates, device.limits["multiprocessors"]),
        layouts={argument.name: argument.layout for argument in built.program.arguments},
        build_seconds=ended - started,
        measure_seconds=time.perf_counter() - ended,
        details={**built.program.details(), **_explained(estimates, device)},
    )


_known: dict[str, list[Estimate]] = {}
"""What the model said, by kernel and GPU: configs that differ in what does not show in the source share it."""


def _estimates(built: Build, device: DeviceInfo) -> list[Estimate]:
    """`estimates_of`, once for every different source and launches."""
    key = stable_hash([built.source, [asdict(launch) for launch in built.program.launches], device.fingerprint])
    if key not in _known:
        _known[key] = estimates_of(built, device)
    return _known[key]


def estimates_of(built: Build, device: DeviceInfo, fitted: Fitted | None = None) -> list[Estimate]:
    """What the model says of every launch of a built candidate.

    Raises:
        PtxError: If the interpreter does not know an instruction.
        ValueError: If a block does not fit on a multiprocessor.
    """
    architecture, program = architecture_of(device), built.program
    functions, sizes = ptx.parse(built.ptx).functions, _buffer_bytes(program)
    estimates = []
    for launch in program.launches:
        function, resources = functions[launch.function], program.resources[launch.function]
        counts = count(ptx.Program(function), launch, sizes, architecture)
        instructions = len(function.instructions)
        given = (launch, resources, counts, instructions, sizes, device, architecture, fitted or Fitted())
        estimates.append(estimate(*given))
    return estimates


def count(
    kernel: ptx.Program, launch: Launch, buffer_bytes: Mapping[str, int], architecture: Architecture
) -> BlockCounts:
    """Count what the block in the middle of a grid does, which is no block at an edge if any is not."""
    arguments = [np.empty(buffer_bytes[name] // FLOAT_BYTES, np.float32) for name in launch.buffers]
    middle = _middle(launch)
    (counts,) = kernel.count(launch.grid, launch.block, arguments, cycles_of(architecture), blocks=[middle])
    return counts


def latency_us(estimates: list[Estimate]) -> float:
    """Of the launches one after the other."""
    return LAUNCH_US + NEXT_LAUNCH_US * (len(estimates) - 1) + sum(each.microseconds for each in estimates)


def roofline_us(estimates: list[Estimate], device: DeviceInfo) -> float:
    """The least time that the algorithm's launches could take: their arithmetic at the peak, or their buffers once."""
    limits = device.limits
    peak = 2.0 * limits["multiprocessors"] * limits["fp32_lanes_per_sm"] * limits["clock_mhz"]  # per microsecond
    return sum(
        max(each.float_operations / peak, each.moved_bytes / (1e3 * limits["memory_gbps"])) for each in estimates
    )


def _middle(launch: Launch) -> int:
    x, y, z = (extent // 2 for extent in launch.grid)
    return x + launch.grid[0] * (y + launch.grid[1] * z)


def _buffer_bytes(program: Program) -> dict[str, int]:
    sizes = {argument.name: math.prod(argument.shape) for argument in program.arguments}
    return {name: FLOAT_BYTES * elements for name, elements in {**sizes, **program.workspaces}.items()}


def _explained(estimates: list[Estimate], device: DeviceInfo) -> dict[str, object]:
    """What a prediction is made of, for the record."""
    slowest = max(estimates, key=lambda each: each.microseconds)
    return {
        "roofline_us": roofline_us(estimates, device),
        "launches_us": [each.microseconds for each in estimates],
        "bound": slowest.bound,
        "blocks": slowest.blocks,
        "occupancy": slowest.occupancy.share,
    }

"""From a candidate to a `Program`: schedule, lower, compile. No driver and no GPU needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wpk_envs.core import Candidate, DeviceInfo, Kernel
from wpk_envs.devices.cuda.program import Dimensions, Launch, Program
from wpk_envs.devices.cuda.toolchain import compile_source


@dataclass(frozen=True)
class Build:
    """A compiled candidate, with what was made on the way.

    Attributes:
        program: What a GPU is given.
        source: The CUDA source.
        ptx: What the interpreter executes.
    """

    program: Program
    source: str
    ptx: str


def build(candidate: Candidate, device: DeviceInfo) -> Build:
    """Schedule, lower and compile a candidate for a device (imports TVM).

    Raises:
        UserError: If the CUDA toolchain is missing or has dropped the device's architecture.
        CompileError: If the CUDA compiler refuses the source.
    """
    return build_kernel(candidate.template.kernel(candidate.operator, candidate.config, device), device)


def build_kernel(kernel: Kernel, device: DeviceInfo) -> Build:
    """Lower and compile a scheduled kernel; raises as `build`."""
    from wpk_envs import tvm_adapter

    arch = str(device.target["arch"])
    source = tvm_adapter.lower_cuda(kernel.module, device.target)
    compiled = compile_source(source.code, arch)
    program = Program(
        arch=arch,
        image=compiled.cubin,
        launches=tuple(
            Launch(call.function, _dimensions(call.extents, "block"), _dimensions(call.extents, "thread"), call.buffers)
            for call in source.calls
        ),
        arguments=kernel.arguments,
        workspaces=source.workspaces,
        resources=compiled.resources,
    )
    return Build(program, source.code, compiled.ptx)


def _dimensions(extents: Mapping[str, int], what: str) -> Dimensions:
    return extents.get(f"{what}Idx.x", 1), extents.get(f"{what}Idx.y", 1), extents.get(f"{what}Idx.z", 1)

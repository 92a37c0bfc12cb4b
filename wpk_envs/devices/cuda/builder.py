"""What answers in a GPU device's builder processes: compiles candidates, with no GPU."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from typing import Any, Literal

from wpk_envs.core import Candidate, DeviceInfo
from wpk_envs.devices.cpu_server import limit_memory
from wpk_envs.devices.cuda.program import Program
from wpk_envs.devices.failures import failure
from wpk_envs.devices.messages import Failure
from wpk_envs.errors import UserError

NICENESS = 10
"""Builders give way to the runner, which must start kernels ahead of time."""


@dataclass(frozen=True)
class BuildCandidate:
    """Asks for a candidate as a `Built`.

    Attributes:
        candidate: What to compile.
        device: The GPU that it is for.
    """

    candidate: Candidate
    device: DeviceInfo


@dataclass(frozen=True)
class Built:
    """A compiled candidate.

    Attributes:
        program: What a GPU is given.
        seconds: Scheduling, lowering and code generation.
    """

    program: Program
    seconds: float


class BuildServer:
    """Compiles in this process.

    Args:
        image: What a program's image is to be: machine code, or the text that interpreters run.
        memory_bytes: Memory that this process may use on top of what it needs to start.
    """

    info = None

    def __init__(self, image: Literal["cubin", "ptx"], memory_bytes: int) -> None:
        from wpk_envs.devices.cuda.build import build

        self._build = build
        self._image = image
        os.nice(NICENESS)
        _import_compilers()
        limit_memory(memory_bytes)

    def serve(self, request: BuildCandidate) -> Built | Failure:
        """Compile a candidate; whatever that raises is a `Failure` of kind compile.

        Raises:
            UserError: If the toolchain is missing or has dropped the device's architecture.
        """
        started = time.perf_counter()
        try:
            made = self._build(request.candidate, request.device)
        except UserError:
            raise
        except Exception as error:
            return failure(error, "compile")
        program = made.program
        if self._image == "ptx":
            program = dataclasses.replace(program, image=made.ptx.encode())
        return Built(program, time.perf_counter() - started)


def _import_compilers() -> Any:
    """Take the seconds that TVM and NVRTC need to load before the first candidate."""
    from wpk_envs import tvm_adapter
    from wpk_envs.devices.cuda import toolchain

    return tvm_adapter, toolchain.version()

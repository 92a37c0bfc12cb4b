"""`Gpu`: what measuring needs of one GPU, so that the same code runs where none is.

`wpk_envs.devices.cuda.torch_gpu.TorchGpu` is the real one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from wpk_envs.devices.cuda.program import Program
from wpk_envs.errors import UserError

Call = Callable[[], Any]
"""Puts work on the GPU and returns; the work may go on after that."""

Buffer = Any
"""Float32 elements in the GPU's memory, flat; slicing gives a part of the same memory."""

Protocol = Literal["cold", "hot"]
PROTOCOLS: tuple[Protocol, ...] = ("cold", "hot")


@dataclass(frozen=True)
class GpuInfo:
    """What a GPU and the libraries on it say of themselves.

    Attributes:
        model: As the driver names it.
        arch: Such as ``"sm_60"``.
        properties: As the driver reports them, by the names of `wpk_envs.core.DeviceInfo.limits`: all of them but
            ``registers_per_thread`` and ``fp32_lanes_per_sm``.
        versions: Of the driver's CUDA, torch and cuDNN.
        no_vendor: Why no vendor library can be timed beside a kernel, in a sentence; empty if one can.
        memory_bytes: All of the GPU's memory.
        driver: Release of the driver, such as ``"570.86.15"``; empty if NVML does not answer.
    """

    model: str
    arch: str
    properties: Mapping[str, int]
    versions: Mapping[str, str]
    no_vendor: str = ""
    memory_bytes: int = field(default=0, compare=False)
    driver: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.model} ({self.arch}, {self.properties['multiprocessors']} multiprocessors)"


class LoadedProgram(ABC):
    """A program's image in the memory of a GPU."""

    @abstractmethod
    def bind(self, buffers: Mapping[str, Buffer]) -> Call:
        """The program's launches, one after the other, on buffers by name; they stay alive with the call."""

    @abstractmethod
    def unload(self) -> None:
        """Give the image's memory back; calls that were bound must not be used any more."""


class Gpu(ABC):
    """One GPU, and the one stream on which everything runs in order.

    Every method but `synchronize` and `download` may return before the GPU has done its work, and an error of
    the work may be raised by any later one.

    Attributes:
        info: What it is.
        image: What it loads: machine code, or with an interpreter in its place PTX text.
        torch_device: Where vendor paths keep their tensors, as torch names it.
        protocols: Ways of timing that it has.
    """

    image: ClassVar[Literal["cubin", "ptx"]] = "cubin"
    info: GpuInfo
    torch_device: str
    protocols: tuple[Protocol, ...] = PROTOCOLS

    @abstractmethod
    def upload(self, array: np.ndarray) -> Buffer:
        """Copy a float32 array into the GPU's memory."""

    @abstractmethod
    def allocate(self, elements: int) -> Buffer:
        """Memory with arbitrary contents."""

    @abstractmethod
    def poison(self, buffer: Buffer) -> None:
        """Fill a buffer with NaN, all bits set."""

    @abstractmethod
    def download(self, buffer: Buffer) -> np.ndarray:
        """A copy of a buffer as a flat float32 array, once everything before has run."""

    @abstractmethod
    def load(self, program: Program) -> LoadedProgram:
        """Load a program's image.

        Raises:
            UserError: If it is for another architecture.
        """

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until everything has run."""

    @abstractmethod
    def broken(self) -> bool:
        """Whether an error has made this process's use of the GPU impossible for good."""

    @abstractmethod
    def flush(self) -> None:
        """Write to twice as much memory as the L2 cache holds."""

    @abstractmethod
    def mark(self) -> Any:
        """A point in time on the GPU: when everything before it has run."""

    @abstractmethod
    def elapsed_us(self, start: Any, end: Any) -> float:
        """Microseconds between two marks that have passed."""

    @abstractmethod
    def repeated(self, call: Call, count: int) -> Call:
        """A call of so many calls that costs the host one launch; ``call`` must have run before."""

    def sensors(self) -> dict[str, Any]:
        """Clocks and temperature as they are now; what does not answer is left out."""
        return {}


def runs_on(program_arch: str, gpu_arch: str) -> bool:
    """Whether machine code for one architecture runs on another.

    It does on the same and on later minor versions of the same major one, but where its name ends in a letter only
    on the same. Source: CUDA C++ programming guide, binary compatibility.
    """
    if program_arch == gpu_arch or program_arch[-1].isalpha():
        return program_arch.rstrip("abcdefghijklmnopqrstuvwxyz") == gpu_arch
    program, gpu = (int(arch.removeprefix("sm_")) for arch in (program_arch, gpu_arch))
    return program // 10 == gpu // 10 and program <= gpu


def check_toolchain(gpu: GpuInfo, nvrtc: str) -> None:
    """Raise `UserError` if a GPU's driver is too old for machine code of a toolchain.

    Args:
        gpu: The GPU.
        nvrtc: The toolchain's version, such as ``"12.9"``; any minor version of the driver's major one will do.
    """
    driver = gpu.versions["driver"]
    if int(driver.partition(".")[0]) < int(nvrtc.partition(".")[0]):
        raise UserError(
            f"the NVIDIA driver is for CUDA {driver}, too old for kernels of CUDA toolchain {nvrtc}; install a newer "
            "driver, or build the kernels with an older nvidia-cuda-nvrtc"
        )

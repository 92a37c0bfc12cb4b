"""A GPU that is none: PTX is interpreted on the CPU, vendor paths run on the CPU.

Its results are right, its times are the interpreter's and say nothing about any GPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from wpk_envs.devices import ptx
from wpk_envs.devices.cuda.gpu import Call, Gpu, GpuInfo, LoadedProgram
from wpk_envs.devices.cuda.program import Program

PROPERTIES = {
    "multiprocessors": 2,
    "threads_per_block": 1024,
    "threads_per_sm": 2048,
    "blocks_per_sm": 32,
    "registers_per_sm": 65536,
    "shared_bytes_per_block": 49152,
    "shared_bytes_per_sm": 65536,
    "l2_bytes": 1 << 20,
    "clock_mhz": 1000,
    "memory_gbps": 100,
}
ARCH = "sm_60"

DEADLY_BLOCK = (7, 1, 1)
"""Threads of a block whose launch ends the process, as a driver's bug would."""

NOTHING = """
.version 6.0
.target sm_60
.address_size 64
.visible .entry nothing() { ret; }
"""

ILLEGAL = "CUDA error: an illegal memory access was encountered"
"""What CUDA says, once and then to every call of the process."""


class InterpretedGpu(Gpu):
    """Runs PTX images block by block; what a GPU would not survive, its process does not either."""

    image: ClassVar[Literal["cubin", "ptx"]] = "ptx"
    model: ClassVar[str] = "Interpreted GPU"
    no_vendor: ClassVar[str] = ""
    protocols = ("cold", "hot")

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.torch_device = "cpu"
        self.info = GpuInfo(
            self.model, ARCH, PROPERTIES, {"driver": "12.4", "torch": "any", "cudnn": "none"}, self.no_vendor
        )
        self.is_broken = False
        ptx.Program(ptx.parse(NOTHING).functions["nothing"]).run((1,), (1,), [])  # compiles the interpreter's loop

    def upload(self, array: np.ndarray) -> np.ndarray:
        return np.array(array, np.float32).reshape(-1)

    def allocate(self, elements: int) -> np.ndarray:
        return np.zeros(elements, np.float32)

    def poison(self, buffer: np.ndarray) -> None:
        buffer.view(np.uint32)[:] = 0xFFFFFFFF

    def download(self, buffer: np.ndarray) -> np.ndarray:
        self.synchronize()
        return buffer.copy()

    def load(self, program: Program) -> LoadedProgram:
        return _Interpreted(self, program)

    def synchronize(self) -> None:
        if self.is_broken:
            raise RuntimeError(ILLEGAL)

    def broken(self) -> bool:
        return self.is_broken

    def flush(self) -> None:
        pass

    def mark(self) -> float:
        return time.perf_counter()

    def elapsed_us(self, start: float, end: float) -> float:
        return 1e6 * (end - start)

    def repeated(self, call: Call, count: int) -> Call:
        def calls() -> None:
            for _ in range(count):
                call()

        return calls

    def sensors(self) -> dict[str, Any]:
        return {"temperature_c": 20}


class NoVendorGpu(InterpretedGpu):
    """As a GPU that torch has no kernels for."""

    model = "Interpreted GPU without a vendor"
    no_vendor = "torch 2.9 has no kernels for sm_60"
    protocols = ("cold",)


class OddOneOut(InterpretedGpu):
    """Every GPU is another model."""

    def __init__(self, index: int) -> None:
        self.model = f"Interpreted GPU {index}"  # type: ignore[misc]
        super().__init__(index)


class _Interpreted(LoadedProgram):
    def __init__(self, gpu: InterpretedGpu, program: Program) -> None:
        self._gpu = gpu
        functions = ptx.parse(program.image.decode()).functions
        self._launches = [(ptx.Program(functions[launch.function]), launch) for launch in program.launches]

    def bind(self, buffers: Mapping[str, Any]) -> Call:
        """Buffers may be torch's, in the CPU's memory."""
        given = {name: ptx.Buffer(np.asarray(array), initialised=True) for name, array in buffers.items()}

        def call() -> None:
            self._gpu.synchronize()
            for program, launch in self._launches:
                if launch.block == DEADLY_BLOCK:
                    os.abort()
                try:
                    program.run(launch.grid, launch.block, [given[name] for name in launch.buffers], warps="together")
                except ptx.PtxError as error:
                    self._die_of(error)

        return call

    def _die_of(self, error: ptx.PtxError) -> None:
        if "instructions" in str(error):  # endless
            while True:
                time.sleep(1)
        self._gpu.is_broken = True
        raise RuntimeError(ILLEGAL) from error

    def unload(self) -> None:
        self._gpu.synchronize()

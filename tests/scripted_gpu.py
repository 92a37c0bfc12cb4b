"""A GPU whose kernels are Python functions and whose clock only their calls move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wpk_envs.core import Argument
from wpk_envs.devices.cuda.gpu import Call, Gpu, GpuInfo, LoadedProgram
from wpk_envs.devices.cuda.program import Launch, Program, Resources
from wpk_envs.operators import Gemm
from wpk_envs.packing import Packing

OPERATOR = Gemm(m=4, n=6, k=5)
PROPERTIES = {"multiprocessors": 2, "clock_mhz": 1000, "memory_gbps": 100, "fp32_lanes_per_sm": 64}

FLUSH_US = 20.0
GRAPH_US = 5.0
"""What a launch of a graph takes on top of its calls."""

Kernel = Callable[[Mapping[str, np.ndarray]], None]
"""Works on float32 arrays by name, each a slice of a larger one."""


def product(buffers: Mapping[str, np.ndarray]) -> None:
    """The kernel that behaves."""
    op = OPERATOR
    a, b = buffers["a"].reshape(op.m, op.k), buffers["b"].reshape(op.k, op.n)
    buffers["output"][:] = (a @ b).reshape(-1)


class ScriptedGpu(Gpu):
    """Kernels run at once; an error is raised by the next call that waits, and by every later one.

    Args:
        kernels: What images name.
        latency_us: What a call of a kernel takes, with cold caches; hot ones halve it.
    """

    def __init__(self, latency_us: float = 100.0, **kernels: Kernel) -> None:
        self.info = GpuInfo("Scripted GPU", "sm_80", PROPERTIES, {"driver": "12.4"})
        self.torch_device = "cpu"
        self.kernels = {"product": product, **kernels}
        self.latency_us = latency_us
        self.now_us = 0.0
        self.error: Exception | None = None
        self.log: list[str] = []

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
        self.log.append("load")
        return _Loaded(self, self.kernels[program.image.decode()])

    def synchronize(self) -> None:
        if self.error is not None:
            raise self.error

    def broken(self) -> bool:
        return self.error is not None

    def flush(self) -> None:
        self.log.append("flush")
        self.now_us += FLUSH_US

    def mark(self) -> float:
        return self.now_us

    def elapsed_us(self, start: float, end: float) -> float:
        return end - start

    def repeated(self, call: Call, count: int) -> Call:
        self.log.append(f"graph of {count}")

        def replay() -> None:
            self.log.append("replay")
            self.now_us += GRAPH_US
            for _ in range(count):
                call()
                self.now_us -= self.latency_us / 2

        return replay

    def sensors(self) -> dict[str, Any]:
        return {"sm_clock_mhz": 990}


class _Loaded(LoadedProgram):
    def __init__(self, gpu: ScriptedGpu, kernel: Kernel) -> None:
        self._gpu, self._kernel = gpu, kernel

    def bind(self, buffers: Mapping[str, np.ndarray]) -> Call:
        def call() -> None:
            self._gpu.log.append("call")
            self._gpu.now_us += self._gpu.latency_us
            try:
                self._kernel(buffers)
            except RuntimeError as error:
                self._gpu.error = error

        return call

    def unload(self) -> None:
        self._gpu.log.append("unload")
        self._gpu.synchronize()


def program(kernel: str = "product", **workspaces: int) -> Program:
    """A program for `OPERATOR` that runs a kernel of a `ScriptedGpu`."""
    m, n, k = OPERATOR.m, OPERATOR.n, OPERATOR.k
    arguments = (
        Argument("a", (m, k), "MK", Packing().reshape(m, k)),
        Argument("b", (k, n), "KN", Packing().reshape(k, n)),
        Argument("output", (m, n), "MN", Packing().reshape(1, m, n)),
    )
    launch = Launch("main_kernel", (1, 1, 1), (32, 1, 1), ("a", "b", "output", *workspaces))
    return Program("sm_80", kernel.encode(), (launch,), arguments, workspaces, {"main_kernel": Resources(24, 0, 0, 8)})

"""A real GPU: torch's tensors are its memory, torch's stream is its stream, kernels are loaded through the driver."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from wpk_envs.devices.cuda.driver import Driver, open_driver
from wpk_envs.devices.cuda.gpu import Buffer, Call, Gpu, GpuInfo, LoadedProgram, runs_on
from wpk_envs.devices.cuda.program import Program
from wpk_envs.errors import UserError

OLDEST_DRIVER = 12000
"""Machine code of a CUDA 12 toolchain needs a driver for CUDA 12 (minor version compatibility)."""

OLDEST_ARCH = 60

FLUSHED_CACHES = 2
"""How many times the L2 cache's size is written to flush it."""

SENSORS = {"sm_clock_mhz": "clock_rate", "temperature_c": "temperature", "power_mw": "power_draw"}
"""Functions of torch.cuda by what they are recorded as."""

CUDA_126 = "pip install torch --index-url https://download.pytorch.org/whl/cu126"
"""The only builds of torch that still have kernels for Pascal and Volta."""


class TorchGpu(Gpu):
    """One GPU of this host, in this process for good.

    Args:
        index: Its number, from 0, among those that CUDA shows to this process.

    Raises:
        UserError: If there is no such GPU, or it, its driver, torch or a package that loads kernels cannot be used.
    """

    def __init__(self, index: int = 0) -> None:
        self.torch_device = f"cuda:{index}"
        self._index = index
        self._torch = _torch_for(index)
        self._driver = open_driver()
        check_driver(self._driver.version())
        with _usable(index):
            self._torch.cuda.set_device(index)
            self._torch.empty(1, device=self.torch_device)  # makes the context that the driver's calls work on
            self.info = self._describe()
            check_arch(self.info.arch, self.info.model)
            self._flushed = self.allocate(FLUSHED_CACHES * self.info.properties["l2_bytes"] // 4)
        if self.info.no_vendor:
            self.protocols = ("cold",)  # capturing a graph starts kernels of torch's own

    def upload(self, array: np.ndarray) -> Buffer:
        """See `Gpu`."""
        flat = self._torch.from_numpy(np.ascontiguousarray(array, np.float32).reshape(-1))
        return self.allocate(flat.numel()).copy_(flat)

    def allocate(self, elements: int) -> Buffer:
        """See `Gpu`."""
        return self._torch.empty(elements, dtype=self._torch.float32, device=self.torch_device)

    def poison(self, buffer: Buffer) -> None:
        """See `Gpu`."""
        if buffer.numel():
            self._driver.fill(buffer.data_ptr(), 4 * buffer.numel(), self._stream())

    def download(self, buffer: Buffer) -> np.ndarray:
        """See `Gpu`."""
        return buffer.cpu().numpy()

    def load(self, program: Program) -> LoadedProgram:
        """See `Gpu`."""
        if not runs_on(program.arch, self.info.arch):
            raise UserError(
                f"the kernel is compiled for {program.arch} but {self.info.model} has {self.info.arch}; build it again"
            )
        return _Cubin(self._driver, program, self._stream)

    def synchronize(self) -> None:
        """See `Gpu`."""
        self._torch.cuda.synchronize()

    def broken(self) -> bool:
        """See `Gpu`."""
        try:
            self.synchronize()
        except RuntimeError:
            return True
        return False

    def flush(self) -> None:
        """See `Gpu`."""
        self.poison(self._flushed)

    def mark(self) -> Any:
        """See `Gpu`."""
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed_us(self, start: Any, end: Any) -> float:
        """See `Gpu`; CUDA's resolution is about half a microsecond."""
        return 1e3 * start.elapsed_time(end)

    def repeated(self, call: Call, count: int) -> Call:
        """See `Gpu`: a CUDA graph; what other threads do meanwhile is no part of it, and no error."""
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for _ in range(count):
                call()
        return graph.replay

    def sensors(self) -> dict[str, Any]:
        """What NVML answers through torch: the multiprocessors' clock, temperature and power."""
        found: dict[str, Any] = {}
        for name, ask in SENSORS.items():
            with contextlib.suppress(Exception):  # no NVML, no right to ask it, or a sensor that the GPU lacks
                found[name] = int(getattr(self._torch.cuda, ask)(self._index))
        return found

    def _stream(self) -> int:
        return int(self._torch.cuda.current_stream().cuda_stream)

    def _describe(self) -> GpuInfo:
        cuda = self._torch.cuda
        major, minor = cuda.get_device_capability(self._index)
        version = self._driver.version()
        return GpuInfo(
            model=cuda.get_device_name(self._index),
            arch=f"sm_{major}{minor}",
            properties=self._driver.properties(self._index),
            versions={
                "driver": f"{version // 1000}.{version % 1000 // 10}",
                "torch": str(self._torch.__version__),
                "cudnn": str(self._torch.backends.cudnn.version() or "none"),
            },
            no_vendor=self._no_vendor(f"sm_{major}{minor}"),
            memory_bytes=int(cuda.get_device_properties(self._index).total_memory),
            driver=driver_release(),
        )

    def _no_vendor(self, arch: str) -> str:
        """Why torch cannot compute on this GPU, found out by letting it."""
        try:
            self._torch.ones(1, device=self.torch_device).sum().item()
        except RuntimeError as error:
            if "no kernel image" not in str(error):
                raise
            has = ", ".join(self._torch.cuda.get_arch_list())
            version = self._torch.__version__
            return f"torch {version} has no kernels for {arch} (it has {has}); for Pascal and Volta: {CUDA_126}"
        return ""


class _Cubin(LoadedProgram):
    """A module in torch's context."""

    def __init__(self, driver: Driver, program: Program, stream: Callable[[], int]) -> None:
        self._driver = driver
        self._program = program
        self._stream = stream
        self._module = driver.load(program.image)

    def bind(self, buffers: Mapping[str, Buffer]) -> Call:
        """See `LoadedProgram`."""
        launchers = [
            self._driver.launcher(
                self._driver.function(self._module, launch.function),
                launch,
                [buffers[name].data_ptr() for name in launch.buffers],
            )
            for launch in self._program.launches
        ]
        current = self._stream

        def call(held: Any = dict(buffers)) -> None:  # noqa: B006  (keeps the memory alive)
            stream = current()
            for launch in launchers:
                launch(stream)

        return call

    def unload(self) -> None:
        """See `LoadedProgram`."""
        self._driver.unload(self._module)


def check_driver(version: int) -> None:
    """Raise `UserError` for a driver that cannot load our kernels.

    Args:
        version: The CUDA version that it is for, as 1000 * major + 10 * minor.
    """
    if version < OLDEST_DRIVER:
        raise UserError(
            f"the NVIDIA driver is for CUDA {version // 1000}.{version % 1000 // 10}, too old for kernels of a CUDA 12 "
            "toolchain; install driver 525 or newer"
        )


def check_arch(arch: str, model: str) -> None:
    """Raise `UserError` for a GPU older than every architecture that kernels are made for."""
    if int(arch.removeprefix("sm_")) < OLDEST_ARCH:
        raise UserError(f"{model} is an {arch} GPU, too old: the oldest architecture supported is sm_{OLDEST_ARCH}")


def driver_release() -> str:
    """The driver's release, if NVML answers."""
    try:
        pynvml = importlib.import_module("pynvml")
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # not installed, or not answering: it is only recorded
        return ""


def _torch_for(index: int) -> Any:
    """Torch, if it shows a GPU of this number."""
    import torch

    if torch.version.cuda is None:
        raise UserError(
            f"torch {torch.__version__} is not built for CUDA; install a build for NVIDIA GPUs (https://pytorch.org)"
        )
    try:
        torch.cuda.init()
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"no NVIDIA GPU can be used here: {_first_line(error)}") from error
    if count == 0:
        raise UserError("the driver shows no GPU to this process; see CUDA_VISIBLE_DEVICES")
    if index >= count:
        raise UserError(f"there is no GPU {index}: device.gpus takes the numbers 0 to {count - 1}")
    return torch


@contextlib.contextmanager
def _usable(index: int) -> Iterator[None]:
    """Errors of CUDA as sentences: the GPU is full, taken by one process alone, or ill."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"GPU {index} cannot be used: {_first_line(error)}; end what else uses it, or choose another in device.gpus"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

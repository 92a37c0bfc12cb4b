"""The few calls of CUDA's driver that torch does not offer, through cuda-bindings or else CuPy.

Both work on the context that torch has made current in this thread.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from wpk_envs.devices.cuda.program import Launch
from wpk_envs.errors import UserError

ATTRIBUTES = {
    "multiprocessors": 16,
    "threads_per_block": 1,
    "threads_per_sm": 39,
    "blocks_per_sm": 106,
    "registers_per_sm": 82,
    "shared_bytes_per_block": 8,
    "shared_bytes_per_sm": 81,
    "l2_bytes": 38,
    "clock_khz": 13,
    "memory_clock_khz": 36,
    "memory_bus_bits": 37,
}
"""Numbers of `CUdevice_attribute`; the runtime's `cudaDeviceAttr` has the same."""


class Driver(ABC):
    """Access to the driver; every method raises `RuntimeError` with the driver's own error."""

    @abstractmethod
    def version(self) -> int:
        """The CUDA version that the driver is for, as 1000 * major + 10 * minor."""

    @abstractmethod
    def attribute(self, number: int, index: int) -> int:
        """An attribute of a GPU."""

    @abstractmethod
    def load(self, image: bytes) -> Any:
        """Load a cubin; gives the module."""

    @abstractmethod
    def unload(self, module: Any) -> None:
        """Unload a module."""

    @abstractmethod
    def function(self, module: Any, name: str) -> Any:
        """A function of a module."""

    @abstractmethod
    def launch(self, function: Any, launch: Launch, stream: int, parameters: int) -> None:
        """Start a function; ``parameters`` is the address of an array of addresses of its arguments."""

    @abstractmethod
    def fill(self, address: int, size: int, stream: int) -> None:
        """Set every bit of so many bytes."""

    def launcher(self, function: Any, launch: Launch, addresses: Sequence[int]) -> Callable[[int], None]:
        """A call that starts a function on buffers at these addresses; it is given the stream."""
        values = [ctypes.c_void_p(address) for address in addresses]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        parameters, start = ctypes.addressof(pointers), self.launch

        def call(stream: int, held: Any = (values, pointers)) -> None:
            start(function, launch, stream, parameters)

        return call

    def properties(self, index: int) -> dict[str, int]:
        """What the driver knows of a GPU, by the names of `wpk_envs.core.DeviceInfo.limits`.

        Memory moves two bits per clock and wire, as double data rate has it.
        """
        found = {name: self.attribute(number, index) for name, number in ATTRIBUTES.items()}
        clock, memory_clock, wires = (found.pop(each) for each in ("clock_khz", "memory_clock_khz", "memory_bus_bits"))
        return {**found, "clock_mhz": clock // 1000, "memory_gbps": round(2 * memory_clock * wires / 8 / 1e6)}


class _BindingsDriver(Driver):
    """Through NVIDIA's cuda-bindings."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._cuda = driver
        self._success = driver.CUresult.CUDA_SUCCESS

    def version(self) -> int:
        return int(self._checked(self._cuda.cuDriverGetVersion()))

    def attribute(self, number: int, index: int) -> int:
        device = self._checked(self._cuda.cuDeviceGet(index))
        return int(self._checked(self._cuda.cuDeviceGetAttribute(self._cuda.CUdevice_attribute(number), device)))

    def load(self, image: bytes) -> Any:
        return self._checked(self._cuda.cuModuleLoadData(image))

    def unload(self, module: Any) -> None:
        self._checked(self._cuda.cuModuleUnload(module))

    def function(self, module: Any, name: str) -> Any:
        return self._checked(self._cuda.cuModuleGetFunction(module, name.encode()))

    def launch(self, function: Any, launch: Launch, stream: int, parameters: int) -> None:
        self._checked(self._cuda.cuLaunchKernel(function, *launch.grid, *launch.block, 0, stream, parameters, 0))

    def fill(self, address: int, size: int, stream: int) -> None:
        self._checked(self._cuda.cuMemsetD8Async(address, 0xFF, size, stream))

    def _checked(self, answer: tuple[Any, ...]) -> Any:
        result, *values = answer
        if result != self._success:
            _, name = self._cuda.cuGetErrorName(result)
            _, text = self._cuda.cuGetErrorString(result)
            raise RuntimeError(f"{_text(name)}: {_text(text)}")
        return values[0] if values else None


class _CupyDriver(Driver):
    """Through CuPy, whose errors are RuntimeErrors."""

    def __init__(self) -> None:
        from cupy.cuda import driver, runtime

        self._driver, self._runtime = driver, runtime

    def version(self) -> int:
        return int(self._runtime.driverGetVersion())

    def attribute(self, number: int, index: int) -> int:
        return int(self._runtime.deviceGetAttribute(number, index))

    def load(self, image: bytes) -> Any:
        return self._driver.moduleLoadData(image)

    def unload(self, module: Any) -> None:
        self._driver.moduleUnload(module)

    def function(self, module: Any, name: str) -> Any:
        return self._driver.moduleGetFunction(module, name)

    def launch(self, function: Any, launch: Launch, stream: int, parameters: int) -> None:
        self._driver.launchKernel(function, *launch.grid, *launch.block, 0, stream, parameters, 0)

    def fill(self, address: int, size: int, stream: int) -> None:
        self._runtime.memsetAsync(address, 0xFF, size, stream)


def open_driver() -> Driver:
    """Access to the driver through the first of the two packages that is there.

    Raises:
        UserError: If neither is.
    """
    missing = []
    for kind in (_BindingsDriver, _CupyDriver):
        try:
            return kind()
        except ImportError as error:
            missing.append(str(error))
    raise UserError(
        f"running kernels on a GPU needs cuda-bindings or CuPy ({'; '.join(missing)}); install one of them with "
        "pip install 'cuda-bindings>=12,<13'"
    )


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)

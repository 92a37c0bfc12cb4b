"""Our kernels for a GPU by name: compiled when they are first asked for, loaded once, and called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wpk_envs import core
from wpk_envs.core import DeviceInfo
from wpk_envs.devices.cuda.gpu import Gpu
from wpk_envs.devices.cuda.program import Program
from wpk_envs.planner.implementation import Call, Resources


class Kernel:
    """A compiled kernel in the memory of a GPU.

    Args:
        gpu: The GPU.
        program: The kernel.

    Raises:
        UserError: If it is compiled for another architecture.
    """

    def __init__(self, gpu: Gpu, program: Program) -> None:
        self._gpu = gpu
        self._workspaces = program.workspaces
        self._loaded = gpu.load(program)

    def bind(self, buffers: Mapping[str, Any]) -> Call:
        """Its launches on buffers by the names of its arguments.

        What lies between its launches is allocated at every call: in a graph that is memory which the next calls
        of the graph use again.
        """
        if not self._workspaces:
            return self._loaded.bind(buffers)

        def call() -> None:
            scratch = {name: self._gpu.allocate(elements) for name, elements in self._workspaces.items()}
            self._loaded.bind({**buffers, **scratch})()

        return call


def bind(
    settings: Mapping[str, Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Mapping[str, Any],
    resources: Resources,
) -> Call:
    """The kernel's launches on all its tensors, in the stream that is current when they are made."""
    given = {"input": list(inputs), "output": list(outputs)}
    buffers = {}
    for argument in settings["arguments"]:
        name, where = argument["name"], argument["from"]
        buffers[name] = (constants[name] if where == "constant" else given[where].pop(0)).view(-1)
    return resources.functions[settings["function"]].bind(buffers)


class CudaFunctions(Mapping[str, Kernel]):
    """Kernels by name, compiled and loaded when they are first asked for (imports TVM).

    Args:
        device: What they are compiled for.
        gpu: What they are loaded into.
    """

    def __init__(self, device: DeviceInfo, gpu: Gpu) -> None:
        self._device = device
        self._gpu = gpu
        self._made_by: dict[str, Callable[[], core.Kernel]] = {}
        self._built: dict[str, Program] = {}
        self._loaded: dict[str, Kernel] = {}

    def add(self, name: str, kernel: Callable[[], core.Kernel]) -> None:
        """Say how a kernel's TensorIR is made."""
        self._made_by.setdefault(name, kernel)

    def built(self, name: str) -> Program:
        """The compiled kernel, as a plan's folder keeps it.

        Raises:
            UserError: If the CUDA toolchain is missing.
        """
        from wpk_envs.devices.cuda.build import build_kernel

        if name not in self._built:
            made = build_kernel(self._made_by[name](), self._device)
            interpreted = self._gpu.image == "ptx"
            program = dataclasses.replace(made.program, image=made.ptx.encode()) if interpreted else made.program
            self._built[name] = program
        return self._built[name]

    def __getitem__(self, name: str) -> Kernel:
        if name not in self._loaded:
            self._loaded[name] = Kernel(self._gpu, self.built(name))
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made_by)

    def __len__(self) -> int:
        return len(self._made_by)

"""Compiled functions by name, and calls of them: what our kernels share with TVM's default schedules."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wpk_envs.core import DeviceInfo
from wpk_envs.planner.implementation import Call, Resources
from wpk_envs.planner.kernels import tensors


def bind(
    settings: Mapping[str, Any],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    constants: Mapping[str, np.ndarray],
    resources: Resources,
) -> Call:
    """The compiled function with all its tensors."""
    given = {"input": list(inputs), "output": list(outputs)}
    arguments = []
    for argument in settings["arguments"]:
        array = constants[argument["constant"]] if "constant" in argument else given[argument["from"]].pop(0)
        arguments.append(tensors.tvm_ffi().from_dlpack(array.reshape(argument["shape"])))
    return functools.partial(resources.functions[settings["function"]], *arguments)


class CompiledFunctions(Mapping[str, Callable[..., Any]]):
    """Kernels by name, compiled in memory when they are first asked for (imports TVM).

    Args:
        device: What they are compiled for.
    """

    def __init__(self, device: DeviceInfo) -> None:
        self._device = device
        self._modules: dict[str, Callable[[], Any]] = {}
        self._built: dict[str, Any] = {}

    def add(self, name: str, module: Callable[[], Any]) -> None:
        """Say how a kernel's TensorIR is made."""
        self._modules.setdefault(name, module)

    def built(self, name: str) -> Any:
        """The kernel as TVM's runtime module, from which a library is linked."""
        from wpk_envs import tvm_adapter

        if name not in self._built:
            self._built[name] = tvm_adapter.build_cpu(self._modules[name](), self._device.target, name)
        return self._built[name]

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self.built(name).get_function(name, query_imports=True)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

"""What runs: a flat list of calls, bound once to buffers in one arena.

A program is made of plain data (`describe` writes it, a plan file holds it) and of constants, so that a plan that was
just made and one that was loaded run through the same code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wpk_envs.planner import providers
from wpk_envs.planner.assembly import Assembly, Buffer, Step
from wpk_envs.planner.buffers import aligned
from wpk_envs.planner.implementation import Call, Provider, Resources
from wpk_envs.planner.memory import MemoryPlan
from wpk_envs.planner.runtime import runtime_of


@dataclass
class Constants:
    """Prepacked constants by name; equal ones are kept once."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def add(self, wanted: str, array: np.ndarray) -> str:
        """Keep an array; the name under which it, or its equal, is found."""
        array = aligned(np.asarray(array))
        content = hashlib.sha1(array.data if array.size else b"", usedforsecurity=False)
        content.update(f"{array.dtype}{array.shape}".encode())
        name = self._names.setdefault(content.hexdigest(), wanted)
        self.arrays.setdefault(name, array)
        return name


def describe(
    assembly: Assembly, memory: MemoryPlan, constants: Constants, offering: Mapping[str, Provider]
) -> dict[str, Any]:
    """A program as plain data; the constants that it needs are added to ``constants``.

    Args:
        assembly: Steps and buffers.
        memory: Where the buffers lie.
        constants: Where prepacked constants go.
        offering: The providers that made the offers, by name.
    """
    graph = assembly.graph
    return {
        "inputs": [_port(name, buffer, assembly) for name, buffer in zip(graph.inputs, assembly.inputs)],
        "outputs": [_port(name, buffer, assembly) for name, buffer in zip(graph.outputs, assembly.outputs)],
        "arena_bytes": memory.bytes,
        "buffers": {name: _placed(buffer, memory.offsets[name]) for name, buffer in assembly.buffers.items()},
        "constants": {
            buffer: constants.add(name, graph.constants[name]) for name, buffer in assembly.constants.items()
        },
        "steps": [describe_step(step, assembly, constants, offering) for step in assembly.steps],
    }


def describe_step(
    step: Step, assembly: Assembly, constants: Constants, offering: Mapping[str, Provider]
) -> dict[str, Any]:
    """One step as plain data."""
    implementation = step.implementation
    packed = offering[implementation.provider].pack(assembly.graph, step.node, implementation)
    return {
        "name": step.node.name,
        "op": step.node.op,
        "provider": implementation.provider,
        "label": implementation.label,
        "inputs": list(step.inputs),
        "outputs": list(step.outputs),
        "constants": {role: constants.add(f"{step.node.name}/{role}", array) for role, array in packed.items()},
        "settings": dict(implementation.settings),
    }


def _port(name: str, buffer: str, assembly: Assembly) -> dict[str, Any]:
    tensor = assembly.graph.tensors[name]
    return {"name": name, "shape": list(tensor.shape), "dtype": tensor.dtype, "buffer": buffer}


def _placed(buffer: Buffer, offset: int) -> dict[str, Any]:
    return {"offset": offset, "shape": list(buffer.shape), "dtype": buffer.tensor.dtype, "layout": buffer.layout}


class Program:
    """Bound calls over buffers of its own: for one thread at a time.

    Args:
        described: What `describe` wrote.
        constants: Arrays by name, or what `Runtime.held` gave for them.
        resources: What calls are bound with.

    Attributes:
        calls: In order; `run` makes them, several at once where that is possible.
        buffers: By name, all in one arena of the runtime's memory.
        constants: By name, as the runtime holds them.
        runtime: Where it runs.
    """

    def __init__(self, described: Mapping[str, Any], constants: Mapping[str, Any], resources: Resources) -> None:
        self.runtime = runtime_of(resources)
        self.constants = {name: self.runtime.held(array) for name, array in constants.items()}
        self._resources = resources
        self.memory = self.runtime.arena(described["arena_bytes"])
        self.buffers = {
            name: self.runtime.part(self.memory, each["offset"], each["shape"], each["dtype"])
            for name, each in described["buffers"].items()
        }
        for buffer, name in described["constants"].items():
            self.runtime.fill(self.buffers[buffer], self.constants[name])
        self.inputs = [self.buffers[each["buffer"]] for each in described["inputs"]]
        self.outputs = [self.buffers[each["buffer"]] for each in described["outputs"]]
        self.calls = [self.bind(step) for step in described["steps"]]
        self._together = self.runtime.together([step["provider"] for step in described["steps"]], self.calls)

    def bind(self, step: Mapping[str, Any], constants: Mapping[str, np.ndarray] | None = None) -> Call:
        """A step, or another implementation of it, bound to this program's buffers.

        Args:
            step: As `describe_step` wrote it.
            constants: Where its constants are, if not among the program's.
        """
        arrays, held = (self.constants if constants is None else constants), self.runtime.held
        return providers.binder(step["provider"])(
            step["settings"],
            [self.buffers[name] for name in step["inputs"]],
            [self.buffers[name] for name in step["outputs"]],
            {role: held(arrays[name]) for role, name in step["constants"].items()},
            self._resources,
        )

    def run(self) -> None:
        """Compute the outputs of the inputs, both in the buffers; the inputs stay what they are."""
        for call in self._together:
            call()

    def compute(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Copy inputs in, run, copy outputs out."""
        for buffer, given in zip(self.inputs, inputs):
            self.runtime.fill(buffer, given)
        self.run()
        return [self.runtime.read(buffer) for buffer in self.outputs]

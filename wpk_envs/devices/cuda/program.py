"""`Program`: everything that a GPU is given for one candidate, as plain data (no TVM, no CUDA here)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wpk_envs.core import Argument
from wpk_envs.packing import Packing

Dimensions = tuple[int, int, int]


@dataclass(frozen=True)
class Launch:
    """One launch of a function of the program's image.

    Attributes:
        function: Name of the ``__global__`` function.
        grid: Blocks along x, y and z.
        block: Threads of a block along x, y and z.
        buffers: Names of the arguments and workspaces it takes, in its order.
    """

    function: str
    grid: Dimensions
    block: Dimensions
    buffers: tuple[str, ...]


@dataclass(frozen=True)
class Resources:
    """What ptxas says that one function needs.

    Attributes:
        registers: Of one thread.
        shared_bytes: Static shared memory of one block.
        local_bytes: Stack frame of one thread, in local memory.
        spill_bytes: Register spills, bytes stored and loaded.
    """

    registers: int
    shared_bytes: int
    local_bytes: int
    spill_bytes: int


@dataclass(frozen=True)
class Program:
    """A compiled candidate and how to call it.

    Attributes:
        arch: Such as ``"sm_60"``.
        image: What the driver loads: a cubin.
        launches: In order; each sees what those before it wrote.
        arguments: Inputs in the kernel's layouts, the output last; each ``pack`` is a `Packing`.
        workspaces: Scratch buffers by name, in float32 elements.
        resources: By function.
    """

    arch: str
    image: bytes
    launches: tuple[Launch, ...]
    arguments: tuple[Argument, ...]
    workspaces: Mapping[str, int]
    resources: Mapping[str, Resources]

    @property
    def spill_bytes(self) -> int:
        """Register spills of all functions."""
        return sum(each.spill_bytes for each in self.resources.values())

    @property
    def local_bytes(self) -> int:
        """Largest stack frame of the functions."""
        return max(each.local_bytes for each in self.resources.values())

    def details(self) -> dict[str, Any]:
        """What becomes part of a record: the most that any function needs, and all spills."""
        return {
            "registers": max(each.registers for each in self.resources.values()),
            "shared_bytes": max(each.shared_bytes for each in self.resources.values()),
            "local_bytes": self.local_bytes,
            "spill_bytes": self.spill_bytes,
            "launches": len(self.launches),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything but the image, as plain data."""
        return {
            "arch": self.arch,
            "launches": [asdict(launch) for launch in self.launches],
            "arguments": [_argument_fields(argument) for argument in self.arguments],
            "workspaces": dict(self.workspaces),
            "resources": {name: asdict(each) for name, each in self.resources.items()},
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], image: bytes) -> Program:
        """The inverse of `to_dict`."""
        return cls(
            arch=fields["arch"],
            image=image,
            launches=tuple(_launch(each) for each in fields["launches"]),
            arguments=tuple(_argument(each) for each in fields["arguments"]),
            workspaces=dict(fields["workspaces"]),
            resources={name: Resources(**each) for name, each in fields["resources"].items()},
        )


def _launch(fields: Mapping[str, Any]) -> Launch:
    grid, block = (_dimensions(fields[name]) for name in ("grid", "block"))
    return Launch(fields["function"], grid, block, tuple(fields["buffers"]))


def _dimensions(extents: Any) -> Dimensions:
    x, y, z = (int(extent) for extent in extents)
    return x, y, z


def _argument_fields(argument: Argument) -> dict[str, Any]:
    assert isinstance(argument.pack, Packing), f"{argument.name} of a GPU kernel must be packed by a recipe"
    packing = argument.pack.to_list()
    return {"name": argument.name, "shape": list(argument.shape), "layout": argument.layout, "pack": packing}


def _argument(fields: Mapping[str, Any]) -> Argument:
    return Argument(fields["name"], tuple(fields["shape"]), fields["layout"], Packing(fields["pack"]))

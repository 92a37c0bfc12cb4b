"""The code of a plan's kernels for a GPU in its folder: a file of machine code each, and how they are launched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from wpk_envs.devices.cuda.gpu import Gpu
from wpk_envs.devices.cuda.program import Program
from wpk_envs.files import write_whole
from wpk_envs.planner.cuda.functions import Kernel

LAUNCHES = "kernels.json"
"""By name of the kernel: launches, arguments and workspaces, see `Program.to_dict`."""


def write(folder: Path, programs: Mapping[str, Program]) -> None:
    """Write kernels.

    Args:
        folder: Where to.
        programs: What `CudaFunctions.built` gave, by the kernel's name.

    Raises:
        OSError: If the disk refuses.
    """
    launches = {name: program.to_dict() for name, program in programs.items()}
    write_whole(folder / LAUNCHES, (json.dumps(launches, indent=1) + "\n").encode())
    for name, program in programs.items():
        write_whole(_code(folder, name), program.image)


def load(folder: Path, names: Iterable[str], gpu: Gpu) -> dict[str, Kernel]:
    """Load kernels into a GPU.

    Args:
        folder: What `write` filled.
        names: Of the kernels.
        gpu: The GPU.

    Raises:
        UserError: If they are compiled for another architecture.
    """
    wanted = list(names)
    launches = json.loads((folder / LAUNCHES).read_text()) if wanted else {}
    programs = {name: Program.from_dict(launches[name], _code(folder, name).read_bytes()) for name in wanted}
    return {name: Kernel(gpu, program) for name, program in programs.items()}


def _code(folder: Path, name: str) -> Path:
    return folder / f"{name}.cubin"

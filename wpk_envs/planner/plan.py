"""Plan files, and how to run one: ``wpk_envs.planner.load("plan")(x)``.

A plan is a folder:

- ``plan.json``: readable: what it was made for, buffers, steps, and why each was chosen; checksums of it and of the
  other files
- ``kernels.so``: our compiled kernels, if there are any in it; without a C++ compiler to link them, their code as
  ``kernel_*.ll``; for a GPU ``kernel_*.cubin``, and how they are launched in ``kernels.json``
- ``weights.safetensors``: constants, prepacked for the implementations that read them
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wpk_envs.devices.cuda.gpu import Gpu
from wpk_envs.errors import UserError
from wpk_envs.files import write_whole
from wpk_envs.planner import library, providers, validator
from wpk_envs.planner.buffers import arena, part
from wpk_envs.planner.implementation import Resources
from wpk_envs.planner.memory import ALIGNMENT
from wpk_envs.planner.program import Program

FORMAT = 1
PLAN, WEIGHTS = "plan.json", "weights.safetensors"
CHECKSUM = "checksum"


class Plan:
    """A loaded plan: call it with the model's inputs.

    Buffers are allocated once and every call uses them: one plan per thread (`copy` gives another over the same
    weights). On a GPU the steps are captured in a CUDA graph when the plan is loaded, and a call replays it.

    Args:
        header: The content of ``plan.json``.
        constants: Arrays by name.
        resources: Threads and compiled kernels.
    """

    def __init__(self, header: Mapping[str, Any], constants: Mapping[str, Any], resources: Resources) -> None:
        self.header = header
        self._resources = resources
        self.program = Program(header["program"], constants, resources)
        self._ports = header["program"]["inputs"]

    @property
    def name(self) -> str:
        """The model's."""
        return str(self.header["model"])

    def copy(self) -> Plan:
        """The same plan with buffers of its own, for another thread."""
        return Plan(self.header, self.program.constants, self._resources)

    def __call__(self, *inputs: Any) -> Any:
        """Run the model.

        Args:
            inputs: One array per input of the model, NumPy's or torch's (wherever it is), of the very shape and type
                that the plan was made for.

        Returns:
            A new NumPy array; a tuple of them if the model has several outputs.

        Raises:
            UserError: For another number of inputs, another shape or another type.
        """
        arrays = [np.asarray(each.detach().cpu() if hasattr(each, "detach") else each) for each in inputs]
        self._check(arrays)
        outputs = self.program.compute(arrays)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _check(self, arrays: Sequence[np.ndarray]) -> None:
        if len(arrays) != len(self._ports):
            names = ", ".join(port["name"] for port in self._ports)
            raise UserError(f"{self.name} takes {len(self._ports)} inputs ({names}), not {len(arrays)}")
        for array, port in zip(arrays, self._ports):
            if list(array.shape) != port["shape"] or str(array.dtype) != port["dtype"]:
                raise UserError(
                    f"input {port['name']} of {self.name} must be {port['dtype']} of shape {port['shape']}, not "
                    f"{array.dtype} of shape {list(array.shape)}; a plan is made for one shape: plan again for another"
                )


def save(
    folder: Path, header: Mapping[str, Any], constants: Mapping[str, np.ndarray], kernels: Mapping[str, Any]
) -> str:
    """Write a plan; nothing of it is there before all of it is.

    Args:
        folder: Made anew; a plan that it holds is replaced.
        header: What `Plan` is made of; format and checksums are added.
        constants: Arrays by name.
        kernels: What was compiled, by kernel's name, for `library.write` or `cuda.library.write`.

    Returns:
        What the user should know of it, in a sentence; usually nothing.

    Raises:
        OSError: If the disk refuses.
        UserError: If it refuses the weights, or the folder holds something else than a plan.
    """
    folder = folder.absolute()
    holds_something = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if holds_something and not (folder / PLAN).is_file():
        raise UserError(f"{folder} is there and is no plan, so it is not replaced: choose another folder, or remove it")
    making = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        _save_constants(constants, making / WEIGHTS, folder)
        remark = _save_kernels(header["made_for"], kernels, making) if kernels else ""
        files = {each.name: _checksum(each) for each in sorted(making.iterdir())}
        whole = sealed({"format": FORMAT, **header, "files": files})
        write_whole(making / PLAN, (json.dumps(whole, indent=1) + "\n").encode())
        if folder.exists():
            shutil.rmtree(folder)
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return remark


def _save_kernels(made_for: Mapping[str, Any], kernels: Mapping[str, Any], folder: Path) -> str:
    if not _is_for_gpu(made_for):
        return library.write(folder, kernels)
    from wpk_envs.planner.cuda import library as cuda_library

    cuda_library.write(folder, kernels)
    return ""


def _is_for_gpu(made_for: Mapping[str, Any]) -> bool:
    return made_for.get("kind") == "cuda"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a ``plan.json`` with a checksum of everything else in it."""
    others = {name: value for name, value in content.items() if name != CHECKSUM}
    return {**others, CHECKSUM: hashlib.sha256(json.dumps(others).encode()).hexdigest()}


def _save_constants(constants: Mapping[str, np.ndarray], path: Path, folder: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(dict(constants), path)
    except SafetensorError as error:
        raise UserError(
            f"the weights of the plan {folder} cannot be written ({error}); free some space there, or choose another "
            "folder with hydra.run.dir=FOLDER"
        ) from error


def load(path: str | Path, gpu: Gpu | None = None) -> Plan:
    """Load a plan.

    Args:
        path: The folder that planning wrote.
        gpu: Where a plan for a GPU is to run; torch's current GPU if none.

    Raises:
        UserError: If it is no plan, is damaged, of another version, or was made for another machine.
    """
    folder = Path(path)
    header = _header(folder)
    made_for, steps = header["made_for"], header["program"]["steps"]
    compiled = {step["settings"]["function"] for step in steps if step["provider"] in providers.COMPILED}
    if _is_for_gpu(made_for):
        resources = _on_gpu(folder, header, compiled, gpu)
    else:
        validator.check(made_for, validator.computing(steps), str(folder))
        _check_files(folder, header["files"])
        resources = Resources(int(made_for["threads"]), library.load(folder, compiled))
    return Plan(header, _constants(folder / WEIGHTS), resources)


def _on_gpu(folder: Path, header: Mapping[str, Any], compiled: Collection[str], gpu: Gpu | None) -> Resources:
    """The kernels of a plan in a GPU, which must be the one that it was made for."""
    from wpk_envs.planner.cuda import library as cuda_library
    from wpk_envs.planner.cuda import presence
    from wpk_envs.planner.cuda.runtime import CudaRuntime

    made_for = header["made_for"]
    try:
        here = presence.open_gpu() if gpu is None else gpu
    except UserError as error:
        raise UserError(f"the plan {folder} was made for the GPU {made_for.get('gpu')!r}: {error}") from error
    presence.check(made_for, here.info, str(folder))
    _check_files(folder, header["files"])
    return Resources(1, cuda_library.load(folder, compiled, here), CudaRuntime(here))


def _header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / PLAN).read_text())
    except FileNotFoundError as error:
        raise UserError(f"there is no plan in {folder}: it has no {PLAN}; experiments.plan writes one") from error
    except (OSError, ValueError) as error:
        raise UserError(f"the plan {folder} is damaged: {PLAN} cannot be read ({error}); plan again") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise UserError(f"the plan {folder} has format {found}, and this version reads {FORMAT}; plan again")
    if header.get(CHECKSUM) != sealed(header)[CHECKSUM]:
        raise UserError(f"the plan {folder} is damaged: {PLAN} is not what was written; plan again")
    return header


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, checksum in files.items():
        if not (folder / name).exists():
            raise UserError(f"the plan {folder} is damaged: {name} is missing; plan again")
        if _checksum(folder / name) != checksum:
            raise UserError(f"the plan {folder} is damaged: {name} is not what was written; plan again")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _constants(path: Path) -> dict[str, np.ndarray]:
    """All arrays, aligned in one piece of memory."""
    from safetensors.numpy import load_file

    arrays = load_file(path)
    places, end = {}, 0
    for name, array in arrays.items():
        places[name] = end
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    memory, found = arena(end), {}
    for name, array in arrays.items():
        found[name] = part(memory, places[name], array.shape, str(array.dtype))
        found[name][...] = array
    return found

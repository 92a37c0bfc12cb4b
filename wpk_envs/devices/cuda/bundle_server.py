"""What answers in the workers that make a bundle: compiles candidates, and checks some of them by interpretation."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wpk_envs.core import Candidate, DeviceInfo
from wpk_envs.devices.checking import CandidateError, checked_error
from wpk_envs.devices.cuda.build import Build, build
from wpk_envs.devices.cuda.builder import BuildCandidate, BuildServer, Built
from wpk_envs.devices.cuda.program import Program
from wpk_envs.devices.messages import Failure

WHOLE_FLOPS = 6e8
"""Kernels that execute no more than this are interpreted whole, within some seconds; of others some blocks are."""


@dataclass(frozen=True)
class Interpret:
    """Asks to build a candidate again and to run its PTX; the answer is a `Checked`.

    Attributes:
        candidate: What to check.
        device: The GPU that it is for.
        image: SHA-256 of the image that was built before.
    """

    candidate: Candidate
    device: DeviceInfo
    image: str


@dataclass(frozen=True)
class Checked:
    """What came of running a kernel's PTX against the float64 reference.

    Attributes:
        blocks: How many blocks of the last launch were run.
        grid: How many it has.
        error: Largest deviation of what they wrote, relative to the reference's largest magnitude.
        problem: Why the kernel is wrong, in a sentence; empty if it is right.
    """

    blocks: int
    grid: int
    error: float | None
    problem: str


class BundleServer:
    """Compiles in this process as `BuildServer` does, and checks.

    Args:
        image: What a program's image is to be: machine code, or the text that interpreters run.
        memory_bytes: Memory that this process may use on top of what it needs to start.
    """

    info = "a compiler"

    def __init__(self, image: Literal["cubin", "ptx"], memory_bytes: int) -> None:
        self._image = image
        self._builder = BuildServer(image, memory_bytes)

    def serve(self, request: BuildCandidate | Interpret) -> Built | Checked | Failure:
        """Answer one request; a candidate that does not compile is a `Failure` of kind compile."""
        if isinstance(request, BuildCandidate):
            return self._builder.serve(request)
        made = build(request.candidate, request.device)
        image = made.ptx.encode() if self._image == "ptx" else made.program.image
        if hashlib.sha256(image).hexdigest() != request.image:
            return Checked(0, 0, None, "building it again gives another image")
        return check(request.candidate, made)


def checkable(program: Program, executed_flops: float) -> bool:
    """Whether `check` can run a kernel: whole, or a part of a single launch."""
    return executed_flops <= WHOLE_FLOPS or len(program.launches) == 1


def check(candidate: Candidate, built: Build) -> Checked:
    """Run a kernel's PTX, with the operator's own shape, on fresh inputs.

    A kernel that executes more than `WHOLE_FLOPS` is not run whole: its first blocks, its last and some between
    are, as many as fit into that, and what they wrote is compared.
    """
    from wpk_envs.devices.cuda.interpreted import interpret
    from wpk_envs.devices.ptx import PtxError

    operator, rng = candidate.operator, np.random.default_rng()
    inputs = operator.random_inputs(rng)
    grid = math.prod(built.program.launches[-1].grid)
    share = WHOLE_FLOPS / candidate.template.executed_flops(operator, candidate.config)
    chosen = None if share >= 1 else _spread(grid, max(2, int(share * grid)), rng)
    count = grid if chosen is None else len(chosen)
    try:
        output = interpret(built.program, built.ptx, inputs, "reverse", chosen)
    except PtxError as error:
        return Checked(count, grid, None, str(error))
    reference = operator.reference(inputs)
    try:
        compared = np.isfinite(output) if chosen else np.True_
        error_size = checked_error(np.where(compared, output, reference), reference, candidate.template.tolerance)
    except CandidateError as error:
        return Checked(count, grid, error.max_error, str(error))
    return Checked(count, grid, error_size, "" if np.any(compared) else "no block writes any element of the output")


def _spread(grid: int, count: int, rng: np.random.Generator) -> list[int]:
    """The first and the last block, and some between."""
    between = rng.choice(np.arange(1, grid - 1), min(count, grid) - 2, replace=False)
    return [0, *sorted(int(block) for block in between), grid - 1]

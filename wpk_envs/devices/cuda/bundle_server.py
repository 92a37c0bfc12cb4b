"""What answers in the workers that make a bundle: compiles candidates, and checks some of them by interpretation."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from wpk_envs.core import Candidate, DeviceInfo
from wpk_envs.devices.checking import CandidateError, checked_error
from wpk_envs.devices.cuda.build import Build, build
from wpk_envs.devices.cuda.program import Program
from wpk_envs.devices.failures import failure
from wpk_envs.devices.messages import Failure
from wpk_envs.errors import UserError

WHOLE_FLOPS = 6e8
"""Kernels that execute no more than this are interpreted whole, within some seconds; of others some blocks are."""


@dataclass(frozen=True)
class Compile:
    """Asks for a candidate's `Program`."""

    candidate: Candidate


@dataclass(frozen=True)
class Interpret:
    """Asks to build a candidate again and to run its PTX; the answer is a `Checked`.

    Attributes:
        candidate: What to check.
        image: SHA-256 of the machine code that was built before.
    """

    candidate: Candidate
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
    """Compiles and checks in this process; no GPU is needed.

    Args:
        device: What kernels are made for.
    """

    def __init__(self, device: DeviceInfo) -> None:
        from wpk_envs import tvm_adapter  # noqa: F401  (seconds, before the first request)

        self.info = device

    def serve(self, request: Compile | Interpret) -> Program | Checked | Failure:
        """Answer one request; a candidate that does not compile is a `Failure` of kind compile."""
        try:
            built = build(request.candidate, self.info)
        except UserError:
            raise
        except Exception as error:  # TVM and templates raise whatever they like
            return failure(error, "compile")
        if isinstance(request, Compile):
            return built.program
        if hashlib.sha256(built.program.image).hexdigest() != request.image:
            return Checked(0, 0, None, "building it again gives other machine code")
        return check(request.candidate, built)


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

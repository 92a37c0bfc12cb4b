"""Executes a compiled candidate on the CPU, launch by launch, through the PTX interpreter: its result, no times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from wpk_envs.devices import ptx
from wpk_envs.devices.cuda.program import Program
from wpk_envs.devices.ptx import Buffer, Warps


def interpret(
    program: Program,
    text: str,
    inputs: Mapping[str, np.ndarray],
    warps: Warps = "forward",
    blocks: Iterable[int] | None = None,
) -> np.ndarray:
    """Run every block of every launch on packed inputs.

    Args:
        program: How the functions are launched; its image is not read.
        text: The PTX that the image was made of.
        inputs: Arrays by name, as `Operator.random_inputs` draws them.
        warps: In which order the warps of a block take turns.
        blocks: Linear numbers of the blocks to run, for a program of one launch; all if none.

    Returns:
        The output in the operator's canonical layout; NaN where nothing was written.

    Raises:
        PtxError: For an instruction that is not known, and for every access that is not allowed.
        ValueError: For some blocks of a program of several launches.
    """
    if blocks is not None and len(program.launches) > 1:
        raise ValueError("some blocks of one launch do not give what the next launch reads")
    functions = ptx.parse(text).functions
    buffers = _buffers(program, inputs)
    for launch in program.launches:
        kernel = ptx.Program(functions[launch.function])
        arguments = [buffers[name] for name in launch.buffers]
        kernel.run(launch.grid, launch.block, arguments, blocks=blocks, warps=warps)
    output = program.arguments[-1]
    return output.pack(buffers[output.name].array)


def _buffers(program: Program, inputs: Mapping[str, np.ndarray]) -> dict[str, Buffer]:
    """Every argument and workspace; what is to be written holds NaN and counts as unwritten."""
    *arguments, output = program.arguments
    buffers = {each.name: Buffer(each.pack(inputs[each.name]), initialised=True) for each in arguments}
    for buffer in buffers.values():
        buffer.array.flags.writeable = False
    shapes = {output.name: output.shape, **{name: (size,) for name, size in program.workspaces.items()}}
    poisoned = {name: Buffer(np.full(shape, np.nan, np.float32), initialised=False) for name, shape in shapes.items()}
    return buffers | poisoned

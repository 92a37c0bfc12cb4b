"""Torch modules as functional graphs of ATen operators with static shapes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from wpk_envs.errors import UserError


def exported(name: str, module: nn.Module, inputs: Sequence[torch.Tensor]) -> ExportedProgram:
    """Export a module in inference mode; operators in place become functional ones.

    Args:
        name: Of the model, for errors.
        module: In inference mode.
        inputs: Example inputs.

    Raises:
        UserError: If torch cannot export it, or if calling it changes the module.
    """
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would hide whole layers in one operator
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch about itself
            program = torch.export.export(module, tuple(inputs)).run_decompositions({})
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"torch.export cannot export '{name}' with static shapes: {reason}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
    _check(name, program)
    return program


def _check(name: str, program: ExportedProgram) -> None:
    for spec in program.graph_signature.output_specs:
        if spec.kind == OutputKind.BUFFER_MUTATION:
            raise UserError(
                f"calling '{name}' changes its buffer '{spec.target}'; a plan keeps no state between calls,"
                " so pass it as an input and return it as an output"
            )
    for spec in program.graph_signature.input_specs:
        if spec.kind in (InputKind.CUSTOM_OBJ, InputKind.TOKEN):
            raise UserError(f"'{name}' uses the object '{spec.target or spec.arg.name}'; only tensors can be imported")


def constant_tensors(program: ExportedProgram) -> dict[str, tuple[str, torch.Tensor]]:
    """Name in the module and value of every parameter, buffer and constant, by the name of its placeholder."""
    values: dict[str, Any] = {**program.constants, **program.state_dict}
    kinds = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
    specs = (spec for spec in program.graph_signature.input_specs if spec.kind in kinds)
    return {spec.arg.name: (str(spec.target), values[str(spec.target)].detach()) for spec in specs}


def output_names(program: ExportedProgram) -> list[str]:
    """Names of the graph's nodes that the caller gets, in order; outputs that are no tensors are left out."""
    wanted = (spec for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT)
    return [spec.arg.name for spec in wanted if type(spec.arg).__name__ == "TensorArgument"]

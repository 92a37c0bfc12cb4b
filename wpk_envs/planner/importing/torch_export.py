"""Torch modules as functional graphs of ATen operators with static shapes."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from wpk_envs.errors import UserError, reason_of


def exported(name: str, module: nn.Module, inputs: Sequence[torch.Tensor]) -> ExportedProgram:
    """Export a module in inference mode; operators in place become functional ones.

    Args:
        name: Of the model, for errors.
        module: In inference mode.
        inputs: Example inputs.

    Raises:
        UserError: If torch cannot export it, or if calling it changes the module.
    """
    with _settings(), torch.no_grad():
        try:
            program = torch.export.export(module, tuple(inputs)).run_decompositions({})
        except Exception as error:
            raise UserError(f"torch.export cannot export '{name}' with static shapes: {reason_of(error)}") from error
    _check(name, program)
    return program


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Quiet, as a failure is told in one sentence, and without the operators that stand for whole layers."""
    fast_attention, logged = torch.backends.mha.get_fastpath_enabled(), logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logged)
        torch.backends.mha.set_fastpath_enabled(fast_attention)


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

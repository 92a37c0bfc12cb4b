"""Torch modules as sources: the built-in networks, and what a function of the user's returns."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree

from wpk_envs.errors import UserError, reason_of
from wpk_envs.planner.importing import torch_weights
from wpk_envs.planner.importing.source import Source
from wpk_envs.planner.models import Model

_FORM = "return (module, (tensor, ...)), a torch module and its example inputs"


def of_model(model: Model, weights: str | None, seed: int) -> Source:
    """A built-in network, with random weights unless a file of them is given.

    Raises:
        UserError: If the file does not fit.
    """
    module = model.make(seed)
    if weights is not None:
        torch_weights.load(module, model.name, weights)
    return Source(model.name, "torch", model.inputs(seed), (model.input_name,), module=module)


def of_function(spec: str, weights: str | None, seed: int) -> Source:
    """The module that ``package.module:function`` returns; torch's random numbers are seeded while it is called.

    Raises:
        UserError: If the function does not exist or returns something else, or the module is not in float32.
    """
    function = _function(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            result = function()
        except Exception as error:
            raise UserError(f"'{spec}' failed: {type(error).__name__}: {reason_of(error)}") from error
    module, inputs = _checked(spec, result)
    if weights is not None:
        torch_weights.load(module, spec, weights)
    arrays = tuple(np.asarray(tensor.numpy(force=True), order="C") for tensor in inputs)
    return Source(spec.partition(":")[2], "torch", arrays, _names(module, len(arrays)), module=module)


def _function(spec: str) -> Callable[[], Any]:
    path, _, name = spec.partition(":")
    try:
        module = importlib.import_module(path)
    except Exception as error:
        raise UserError(
            f"'{path}' of model '{spec}' cannot be imported ({type(error).__name__}: {reason_of(error)}):"
            " give package.module:function, importable from this folder"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"module '{path}' has no function '{name}': write one that takes nothing to {_FORM}")
    return function


def _checked(spec: str, result: Any) -> tuple[nn.Module, Sequence[torch.Tensor]]:
    """Take apart what a function returned."""
    pair = isinstance(result, tuple | list) and len(result) == 2
    inputs = [result[1]] if pair and isinstance(result[1], torch.Tensor) else result[1] if pair else None
    tensors = isinstance(inputs, tuple | list) and all(isinstance(each, torch.Tensor) for each in inputs)
    if not pair or not isinstance(result[0], nn.Module) or not inputs or not tensors:
        raise UserError(f"'{spec}' returned {_described(result)}, but it has to {_FORM}")
    module: nn.Module = result[0].cpu().eval()
    named = [*module.named_parameters(), *module.named_buffers()]
    named += [(f"input {number}", tensor) for number, tensor in enumerate(inputs, start=1)]
    for name, tensor in named:
        if tensor.dtype != torch.float32 and (tensor.is_floating_point() or tensor.is_complex()):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UserError(f"'{name}' of '{spec}' is {kind}, but plans compute in float32 only: convert it")
    return module, inputs


def _described(result: Any) -> str:
    if isinstance(result, tuple | list):
        return f"({', '.join(type(each).__name__ for each in result)})"
    return type(result).__name__


def _names(module: nn.Module, count: int) -> tuple[str, ...]:
    """The names of the arguments that a module's example inputs are for."""
    parameters = inspect.signature(module.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [each.name for each in parameters if each.kind in kinds][:count]
    return (*names, *(f"input_{number}" for number in range(len(names) + 1, count + 1)))


def reference(module: nn.Module, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Call a module eagerly.

    Args:
        module: In inference mode.
        inputs: Left as they are, even by a module that works in place.

    Returns:
        Every tensor of its result, in the order of the graph's outputs.
    """
    with torch.inference_mode():
        result = module(*(torch.from_numpy(each.copy()) for each in inputs))
    return arrays_of(result)


def arrays_of(result: Any) -> list[np.ndarray]:
    """Every tensor of what a module returned, however it is nested, row by row."""
    leaves = _pytree.tree_leaves(result)
    return [np.asarray(leaf.numpy(force=True), order="C") for leaf in leaves if isinstance(leaf, torch.Tensor)]

"""Calls of torch's operators kept as plain data: what a ``framework`` node of a torch model is.

The template of a call holds its arguments by name: numbers, strings, lists, ``{"tensor": i}`` for input i,
``{"torch": "float32"}`` for torch's own constants and ``{"device": None}`` for the device that the inputs are on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from wpk_envs.errors import UserError

Slot = Callable[[Sequence[torch.Tensor]], Any]
"""An argument, given the inputs."""

_TYPES = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32",
          "float64", "complex64", "complex128")  # fmt: skip


def template(arguments: Mapping[str, Any], kind: type) -> tuple[dict[str, Any], list[Any]]:
    """A call's arguments as plain data.

    Args:
        arguments: By name, defaults included.
        kind: What stands for a tensor among them.

    Returns:
        The template, and what stands for its tensors, in order.
    """
    tensors: list[Any] = []

    def plain(value: Any) -> Any:
        if isinstance(value, kind):
            tensors.append(value)
            return {"tensor": len(tensors) - 1}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
            return {"torch": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": None}
        if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
            return {"number": str(value)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise UserError(f"an operator of the model takes a {type(value).__name__}, which no plan can hold: remove it")

    return {name: plain(value) for name, value in arguments.items()}, tensors


def make(target: str, arguments: Mapping[str, Any]) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Prepare a call.

    Args:
        target: Such as ``"aten.cumsum.default"``.
        arguments: The template of its arguments.

    Returns:
        A function of the inputs to contiguous outputs.

    Raises:
        UserError: If torch does not know the operator.
    """
    operator = _operator(target)
    schema = operator._schema.arguments
    positional = [_slot(arguments[each.name]) for each in schema if not each.kwarg_only]
    keywords = {each.name: _slot(arguments[each.name]) for each in schema if each.kwarg_only}

    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = {name: slot(inputs) for name, slot in keywords.items()}
        result = operator(*(slot(inputs) for slot in positional), **given)
        return tuple(tensor.contiguous() for tensor in tensors_of(result))

    return run


def _operator(target: str) -> torch._ops.OpOverload:
    namespace, _, rest = target.partition(".")
    name, _, overload = rest.partition(".")
    try:
        operator: torch._ops.OpOverload = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except AttributeError as error:
        raise UserError(
            f"torch {torch.__version__} does not know the operator '{target}': import the package that registers it"
        ) from error
    return operator


def _slot(value: Any) -> Slot:
    if isinstance(value, list):
        slots = [_slot(item) for item in value]
        return lambda inputs: [slot(inputs) for slot in slots]
    if not isinstance(value, dict):
        return lambda inputs: value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return lambda inputs: inputs[content]
    if kind == "device":
        return lambda inputs: inputs[0].device if inputs else torch.device("cpu")
    constant = getattr(torch, content) if kind == "torch" else _number(content)
    return lambda inputs: constant


def _number(text: str) -> float | complex:
    return complex(text) if "j" in text else float(text)


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in a result, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_of(item)


def repeatable(operator: torch._ops.OpOverload) -> bool:
    """Whether an operator computes the same from the same inputs."""
    return torch.Tag.nondeterministic_seeded not in operator.tags


def numpy_name(model: str, dtype: torch.dtype) -> str:
    """The name of a type that NumPy has too.

    Raises:
        UserError: If it has not, naming the model.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in _TYPES:
        raise UserError(f"'{model}' computes in {name}, which NumPy lacks; plans compute in float32: convert the model")
    return name

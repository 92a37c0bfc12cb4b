"""Models of one ONNX node: what a ``framework`` node of an ONNX model is.

They run in ONNX Runtime, on one thread, or where that is not installed in ONNX's own slow evaluator.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wpk_envs.errors import UserError, reason_of

INSTALL = "pip install 'wpk-envs[planner]'"

Feeds = Mapping[str, np.ndarray]
"""Inputs by name."""

_SESSIONS = 256
_QUIET = 4
"""ONNX Runtime's level of logging at which nothing but fatal errors is printed."""


def text_of(model: Any) -> str:
    """A model as the text that a node's attributes hold."""
    return base64.b64encode(model.SerializeToString(deterministic=True)).decode("ascii")


def make(text: str) -> Callable[..., tuple[Any, ...]]:
    """Prepare the call of a model.

    Args:
        text: Made by `text_of`.

    Returns:
        A function of torch tensors, in the order of the model's inputs, to torch tensors on the same device.

    Raises:
        UserError: If nothing that is installed runs the operator.
    """
    import torch

    names, evaluate = _evaluator(text)

    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = evaluate({name: tensor.numpy(force=True) for name, tensor in zip(names, inputs)})
        device = inputs[0].device if inputs else torch.device("cpu")
        return tuple(torch.from_numpy(_writable(result)).to(device) for result in results)

    return run


def _writable(result: Any) -> np.ndarray:
    return np.require(result, requirements=["C", "W"])


@functools.lru_cache(_SESSIONS)
def _evaluator(text: str) -> tuple[tuple[str, ...], Callable[[Feeds], list[Any]]]:
    """Names of a model's inputs, and what computes its outputs."""
    onnx = required()
    content = base64.b64decode(text)
    model = onnx.ModelProto.FromString(content)
    names = tuple(value.name for value in model.graph.input)
    session = session_of(content, model.graph.node[0].op_type)
    if session is not None:
        return names, lambda feeds: session.run(None, dict(feeds))
    return names, reference_of(model)


def required() -> Any:
    """The package onnx.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"ONNX models need the package onnx: {INSTALL}") from error
    return onnx


def session_of(model: bytes | str, what: str) -> Any:
    """A session of ONNX Runtime on one thread; none if that is not installed.

    Args:
        model: Its bytes, or the path of its file.
        what: Operator or model, for errors.

    Raises:
        UserError: If ONNX Runtime cannot run it.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"ONNX Runtime {onnxruntime.__version__} cannot run '{what}': {reason_of(error)}") from error


def reference_of(model: Any) -> Callable[[Feeds], list[Any]]:
    """ONNX's own evaluation of a model, or of the one in a file.

    Raises:
        UserError: If it lacks an operator.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(model)
    except Exception as error:
        raise UserError(f"the model needs ONNX Runtime ({reason_of(error)}): {INSTALL}") from error
    return lambda feeds: evaluator.run(None, dict(feeds))

"""ONNX files as sources: read, checked, with static shapes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wpk_envs.errors import UserError, reason_of
from wpk_envs.planner import framework_onnx
from wpk_envs.planner.graph import Tensor
from wpk_envs.planner.importing.source import Source

_OTHER_FLOATS = ("FLOAT16", "BFLOAT16", "DOUBLE")


def source_of(path: Path, seed: int) -> Source:
    """A model in a file; example inputs are of unit scale, and ones where they are no floats.

    Args:
        path: The file.
        seed: Of the example inputs.

    Raises:
        UserError: If it is no ONNX model, or it has dynamic shapes or other floats than float32.
    """
    model = read(path)
    random = np.random.default_rng(seed)
    inputs = []
    for value in inputs_of(model):
        what = f"input '{value.name}' of {path}"
        check_type(value.type.tensor_type.elem_type, what)
        tensor = tensor_of(value.type, what)
        floats = tensor.dtype == "float32"
        drawn = random.standard_normal(tensor.shape, np.float32) if floats else np.ones(tensor.shape, tensor.dtype)
        inputs.append(drawn)
    names = tuple(value.name for value in inputs_of(model))
    return Source(path.stem, "onnx", tuple(inputs), names, path=path)


def read(path: Path) -> Any:
    """The checked model in a file, its functions inlined.

    Raises:
        UserError: If it is no ONNX model, or some weights are other floats than float32.
    """
    onnx = framework_onnx.required()
    from onnx import inliner

    try:
        model = onnx.load(path)
        onnx.checker.check_model(path)
    except Exception as error:
        raise UserError(f"{path} is no valid ONNX model ({reason_of(error)}): export it again") from error
    for initializer in model.graph.initializer:
        check_type(initializer.data_type, f"weight '{initializer.name}' of {path}")
    return inliner.inline_local_functions(model) if model.functions else model


def check_type(kind: int, what: str) -> None:
    """Refuse inputs and weights that are floats of another type than float32.

    Args:
        kind: A number of ``TensorProto.DataType``.
        what: What has it, for errors.

    Raises:
        UserError: If it is such a type.
    """
    name = framework_onnx.required().TensorProto.DataType.Name(kind)
    if name in _OTHER_FLOATS:
        raise UserError(f"{what} is {name}, but plans compute in float32 only: convert the model")


def inputs_of(model: Any) -> list[Any]:
    """What the caller of a model gives: the inputs that no initializer is the default of."""
    defaults = {initializer.name for initializer in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in defaults]


def tensor_of(kind: Any, what: str) -> Tensor:
    """Shape and type of a value.

    Args:
        kind: Its ``TypeProto``.
        what: The value, for errors.

    Raises:
        UserError: If it is no tensor, has a dynamic shape, or a type that NumPy lacks.
    """
    onnx = framework_onnx.required()
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        raise UserError(f"{what} is no tensor of a known shape; only those can be planned: change the model")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))
    if dtype.kind not in "fiubc":
        name = onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type)
        raise UserError(f"{what} is {name}, which NumPy lacks; plans compute in float32: convert the model")
    extents = kind.tensor_type.shape.dim
    if not all(extent.HasField("dim_value") for extent in extents):
        shape = ", ".join(str(extent.dim_value) if extent.HasField("dim_value") else extent.dim_param or "?"
                          for extent in extents)  # fmt: skip
        raise UserError(f"{what} has the dynamic shape [{shape}]; a plan needs numbers: export it with a static shape")
    return Tensor(tuple(extent.dim_value for extent in extents), dtype.name)


def reference(path: Path, names: Sequence[str], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime computes or, where that is not installed, ONNX's own evaluator.

    Args:
        path: The file of the model.
        names: Of the inputs.
        inputs: Their values.
    """
    feeds = dict(zip(names, inputs))
    session = framework_onnx.session_of(str(path), str(path))
    if session is not None:
        return list(session.run(None, feeds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return list(framework_onnx.reference_of(str(path))(feeds))

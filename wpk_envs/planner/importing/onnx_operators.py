"""Counterparts of ONNX operators in the planner's operations: elementwise, normalisation, products and shapes.

A rule takes a `Call` that computes in float32 and returns the name of its result (those of all outputs, if there may
be several), or none for a case that only the framework can compute.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import numpy as np

from wpk_envs.planner.importing import onnx_images, onnx_slices
from wpk_envs.planner.importing.onnx_call import Call
from wpk_envs.planner.importing.products import product

Rule = Callable[[Call], str | list[str] | None]


def _unary(call: Call, function: str) -> str:
    return call.add("unary", [call.x], function=function)


def _gelu(call: Call) -> str:
    return _unary(call, "gelu_tanh" if call.attributes.get("approximate") == "tanh" else "gelu")


def _hard_sigmoid(call: Call) -> str | None:
    slope, offset = call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5)
    return _unary(call, "hardsigmoid") if abs(slope - 1 / 6) < 1e-7 and offset == 0.5 else None


def _clip(call: Call) -> str | None:
    if not call.fixed(1, 2):
        return None
    low, high = (call.parameter(name, index) for index, name in enumerate(("min", "max"), start=1))
    if low == 0 and high in (None, 6):
        return _unary(call, "relu" if high is None else "relu6")
    result = call.x
    for bound, function in ((low, "max"), (high, "min")):
        if bound is not None:
            result = call.add("binary", [result, call.builder.scalar(bound, len(call.shape))], function=function)
    return result


def _binary(call: Call, function: str) -> str | None:
    """Of any number of operands."""
    names = call.names()
    if any(call.builder.tensors[name].dtype != "float32" for name in names):
        return None  # powers may be integers

    def combined(left: str, right: str) -> str:
        shape = np.broadcast_shapes(*(call.builder.tensors[name].shape for name in (left, right)))
        return call.builder.add("binary", [left, right], shape, call.name, {"function": function})

    return reduce(combined, names)


def _reciprocal(call: Call) -> str:
    return call.add("binary", [call.builder.scalar(1.0, len(call.shape)), call.x], function="div")


def _layer_norm(call: Call) -> str | None:
    rank = len(call.shape)
    if call.attributes.get("axis", -1) % rank != rank - 1 or not call.fixed(1, 2) or len(call.shape_of(1)) != 1:
        return None
    names = call.names()
    beta = names[2] if len(names) > 2 else call.builder.constant(f"{call.name}.B", np.zeros(call.shape[-1], np.float32))
    return call.add("layer_norm", [*names[:2], beta], epsilon=call.attributes.get("epsilon", 1e-5))


def _softmax(call: Call) -> str | None:
    rank = len(call.shape)
    axis = call.attributes.get("axis", -1 if call.opset >= 13 else 1) % rank
    if call.opset < 13 and any(extent > 1 for extent in call.shape[axis + 1 :]):
        return None  # older ones take all axes from this one on together
    return call.add("softmax", [call.x], axis=axis)


def _matmul(call: Call) -> str | None:
    a, b = call.names()
    return product(call.builder, call.name, a, b, call.shape)


def _gemm(call: Call) -> str | None:
    """``alpha * A' B' + beta * C``."""
    alpha, beta = call.attributes.get("alpha", 1.0), call.attributes.get("beta", 1.0)
    weight = call.constant(1)
    if weight is None or call.attributes.get("transA") or not call.fixed(2):
        return None
    b = call.names()[1]
    if call.attributes.get("transB"):
        b = call.builder.transposed(b)
    if alpha != 1:
        b = call.builder.constant(f"{call.name}.B", call.builder.constants[b] * np.float32(alpha))
    inputs, bias = [call.x, b], call.constant(2)
    if bias is not None and beta != 0:
        if bias.ndim == 2 and bias.shape[0] > 1:
            return None
        plain = bias.shape == call.shape[-1:] and beta == 1
        full = np.broadcast_to(bias * np.float32(beta), (1, call.shape[-1]))[0]
        inputs.append(call.names()[2] if plain else call.builder.constant(f"{call.name}.C", full))
    return call.add("gemm", inputs, bias=len(inputs) == 3, residual=False, activation="none")


def _same(call: Call) -> str:
    """Nothing happens, as far as values go, or another shape."""
    return call.reshape(call.x)


def _dropout(call: Call) -> str | None:
    training = call.parameter("training_mode", 2, False)
    return _same(call) if call.fixed(2) and not training else None


def _expand(call: Call) -> str | None:
    return call.x if call.shape_of(0) == call.shape else None


def _transpose(call: Call) -> str:
    axes = tuple(call.attributes.get("perm", range(len(call.shape))[::-1]))
    return call.x if axes == tuple(sorted(axes)) else call.add("transpose", [call.x], axes=axes)


def _concat(call: Call) -> str:
    return call.add("concat", call.names(), axis=call.attributes["axis"] % len(call.shape))


RULES: dict[str, Rule] = {
    **{name: partial(_unary, function=name.lower())
       for name in ("Relu", "Sigmoid", "Tanh", "HardSwish", "Exp", "Sqrt", "Erf", "Neg")},
    "Gelu": _gelu, "HardSigmoid": _hard_sigmoid, "Clip": _clip, "Reciprocal": _reciprocal,
    **{name: partial(_binary, function=name.lower()) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")},
    "Sum": partial(_binary, function="add"),
    **onnx_images.RULES, **onnx_slices.RULES,
    "LayerNormalization": _layer_norm, "Softmax": _softmax, "MatMul": _matmul, "Gemm": _gemm,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast"), _same),
    "Dropout": _dropout, "Expand": _expand, "Transpose": _transpose, "Concat": _concat,
}  # fmt: skip
"""The rule for each ONNX operator that has a counterpart."""

"""Operations as TVM itself defines them, each made one function; imported only where one is compiled (imports TVM).

Relax's operators say what is computed, its legalisation writes the loops, and its fusion makes one TensorIR function of
all that a node computes. That function is lowered as it is: nothing is scheduled or tuned. (The schedules that TVM
ships for CPUs, of softmax and of products with a vector, start threads of their own, so they are left out.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tvm
from tvm import relax
from tvm.relax import Expr, op

Attributes = Mapping[str, Any]


def module(operation: str, attributes: Attributes, shapes: Sequence[Sequence[int]]) -> tvm.IRModule:
    """The one function ``main`` of a node: its inputs in order, then its output.

    Args:
        operation: One of `DEFINITIONS`.
        attributes: The node's; a pooling's ``padding`` is top, left, bottom, right.
        shapes: Of its inputs; a convolution's bias is [1, O, 1, 1].
    """
    definition = DEFINITIONS[operation]
    builder = relax.BlockBuilder()
    inner = _parameters(shapes)
    with builder.function("fused", inner, attrs={"Primitive": 1}, private=True):
        with builder.dataflow():
            result = builder.emit_output(definition(attributes, *inner))
        builder.emit_func_output(result)
    fused = builder.get().get_global_var("fused")
    outer = _parameters(shapes)
    with builder.function("call", outer):
        with builder.dataflow():
            result = builder.emit_output(relax.Call(fused, outer))
        builder.emit_func_output(result)
    steps = [relax.transform.LegalizeOps(), relax.transform.FuseTIR()]
    return tvm.IRModule({"main": tvm.transform.Sequential(steps)(builder.get())["fused"]})


def _parameters(shapes: Sequence[Sequence[int]]) -> list[relax.Var]:
    return [relax.Var(f"x{place}", relax.TensorType(tuple(shape), "float32")) for place, shape in enumerate(shapes)]


def _constant(value: float) -> Expr:
    return relax.const(value, "float32")


def _hard_sigmoid(x: Expr) -> Expr:
    return op.clip(op.add(op.multiply(x, _constant(1 / 6)), _constant(0.5)), 0, 1)


UNARY: dict[str, Callable[[Expr], Expr]] = {
    "relu": op.nn.relu,
    "relu6": op.nn.relu6,
    "gelu": op.nn.gelu,
    "gelu_tanh": op.nn.gelu_tanh,
    "sigmoid": op.sigmoid,
    "tanh": op.tanh,
    "silu": op.nn.silu,
    "hardswish": lambda x: op.multiply(x, _hard_sigmoid(x)),
    "hardsigmoid": _hard_sigmoid,
    "exp": op.exp,
    "sqrt": op.sqrt,
    "erf": op.erf,
    "neg": op.negative,
}

BINARY: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": op.add,
    "sub": op.subtract,
    "mul": op.multiply,
    "div": op.divide,
    "max": op.maximum,
    "min": op.minimum,
    "pow": op.power,
}


def _finish(attributes: Attributes, value: Expr, rest: Sequence[Expr]) -> Expr:
    """Add bias and residual, as far as there are, and apply the activation."""
    for each in rest:
        value = op.add(value, each)
    activation = attributes.get("activation", "none")
    return value if activation == "none" else UNARY[activation](value)


def _conv2d(attributes: Attributes, x: Expr, weight: Expr, *rest: Expr) -> Expr:
    product = op.nn.conv2d(
        x,
        weight,
        strides=tuple(attributes.get("stride", (1, 1))),
        padding=tuple(attributes.get("padding", (0, 0))),
        dilation=tuple(attributes.get("dilation", (1, 1))),
        groups=attributes.get("groups", 1),
    )
    return _finish(attributes, product, rest)


def _gemm(attributes: Attributes, a: Expr, b: Expr, *rest: Expr) -> Expr:
    return _finish(attributes, op.matmul(a, b), rest)


def _matmul(attributes: Attributes, a: Expr, b: Expr) -> Expr:
    product = op.matmul(_permuted(a, attributes.get("a_axes")), _permuted(b, attributes.get("b_axes")))
    scale = attributes.get("scale", 1.0)
    scaled = product if scale == 1.0 else op.multiply(product, _constant(scale))
    return _permuted(scaled, attributes.get("out_axes"))


def _permuted(x: Expr, axes: Sequence[int] | None) -> Expr:
    return x if axes is None else op.permute_dims(x, list(axes))


def _batch_norm(attributes: Attributes, x: Expr, *statistics: Expr) -> Expr:
    return op.nn.batch_norm(x, *statistics, axis=1, epsilon=attributes["epsilon"], training=False)[0]


def _max_pool2d(attributes: Attributes, x: Expr) -> Expr:
    window = [attributes[name] for name in ("kernel", "stride", "padding", "dilation")]
    return op.nn.max_pool2d(x, *map(tuple, window))


def _avg_pool2d(attributes: Attributes, x: Expr) -> Expr:
    window = [attributes[name] for name in ("kernel", "stride", "padding")]
    return op.nn.avg_pool2d(x, *map(tuple, window), count_include_pad=attributes["count_include_pad"])


def _layer_norm(attributes: Attributes, x: Expr, gamma: Expr, beta: Expr) -> Expr:
    return op.nn.layer_norm(x, gamma, beta, axes=[-1], epsilon=attributes["epsilon"])


def _slice(attributes: Attributes, x: Expr) -> Expr:
    axis, start, stop = (attributes[name] for name in ("axis", "start", "stop"))
    return op.strided_slice(x, axes=[axis], begin=[start], end=[stop])


DEFINITIONS: dict[str, Callable[..., Expr]] = {
    "conv2d": _conv2d,
    "gemm": _gemm,
    "matmul": _matmul,
    "unary": lambda attributes, x: UNARY[attributes["function"]](x),
    "binary": lambda attributes, x, y: BINARY[attributes["function"]](x, y),
    "batch_norm": _batch_norm,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "global_avg_pool": lambda attributes, x: op.mean(x, [2, 3], keepdims=True),
    "softmax": lambda attributes, x: op.nn.softmax(x, attributes["axis"]),
    "layer_norm": _layer_norm,
    "transpose": lambda attributes, x: op.permute_dims(x, list(attributes["axes"])),
    "slice": _slice,
    "concat": lambda attributes, *parts: op.concat(list(parts), attributes["axis"]),
}
"""An operation's expression of its attributes and inputs."""

"""Counterparts of ATen operators in the planner's operations: elementwise, images, normalisation and shapes.

A rule takes a `Call` whose tensors are all float32 and returns the name of its result (those of a list of results), or
none for a case that only the framework can compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from wpk_envs.planner.importing import torch_products, torch_slices
from wpk_envs.planner.importing.torch_call import Call, Operand
from wpk_envs.planner.operations import UNARY

Rule = Callable[[Call], str | list[str] | None]


def _pair(value: Sequence[int]) -> tuple[int, int]:
    """Torch's one or two numbers for the two axes of an image."""
    return (int(value[0]), int(value[-1]))


def _unary(call: Call, function: str) -> str:
    return call.add("unary", [call["self"].name], function=function)


def _gelu(call: Call) -> str:
    return _unary(call, "gelu_tanh" if call["approximate"] == "tanh" else "gelu")


def _clamp(call: Call) -> str | None:
    low, high = (call[name if name in call.arguments else f"{name}_val"] for name in ("min", "max"))
    if isinstance(low, Operand) or isinstance(high, Operand):
        return None
    if low == 0 and high in (None, 6):
        return _unary(call, "relu" if high is None else "relu6")
    result: str = call["self"].name
    for bound, function in ((low, "max"), (high, "min")):
        if bound is not None:
            limit = call.builder.scalar(float(bound), len(call.shape))
            result = call.add("binary", [result, limit], function=function)
    return result


def _binary(call: Call, function: str, swapped: bool = False) -> str | None:
    names = ("self", "exponent") if "exponent" in call.arguments else ("self", "other")
    if call[names[1]] is None or call["alpha"] not in (None, 1) or call["rounding_mode"] is not None:
        return None
    operands = [call.operand(name, len(call.shape)) for name in (names[::-1] if swapped else names)]
    return call.add("binary", operands, function=function)


def _reciprocal(call: Call) -> str:
    return call.add("binary", [call.builder.scalar(1.0, len(call.shape)), call["self"].name], function="div")


def _conv2d(call: Call) -> str | None:
    x = "input" if call["input"] is not None else "self"
    if len(call.shape_of(x)) != 4 or len(call.shape_of("weight")) != 4 or not call.fixed("weight", "bias"):
        return None
    if call["transposed"]:
        return None
    dilation = _pair(call["dilation"])
    padding = call["padding"]
    if isinstance(padding, str):
        around = [step * (size - 1) for step, size in zip(dilation, call.shape_of("weight")[2:])]
        if padding == "same" and any(total % 2 for total in around):
            return None
        padding = [total // 2 if padding == "same" else 0 for total in around]
    bias = call["bias"] is not None
    inputs = [call[name].name for name in (x, "weight", "bias") if call[name] is not None]
    return call.add(
        "conv2d", inputs, stride=_pair(call["stride"]), padding=_pair(padding), dilation=dilation,
        groups=call["groups"], bias=bias, residual=False, activation="none",
    )  # fmt: skip


def _batch_norm(call: Call) -> str | None:
    x = "input" if call["input"] is not None else "self"
    if call["training"] or call["running_mean"] is None or not call.fixed("weight", "bias", "running_mean"):
        return None
    channels = call.shape_of(x)[1]
    gamma, beta = call.vector("weight", channels, 1.0), call.vector("bias", channels, 0.0)
    statistics = [call["running_mean"].name, call["running_var"].name]
    return call.add("batch_norm", [call[x].name, gamma, beta, *statistics], epsilon=float(call["eps"]))


def _layer_norm(call: Call) -> str | None:
    if len(call["normalized_shape"]) != 1 or not call.fixed("weight", "bias"):
        return None
    length = call["normalized_shape"][0]
    gamma, beta = call.vector("weight", length, 1.0), call.vector("bias", length, 0.0)
    return call.add("layer_norm", [call["input"].name, gamma, beta], epsilon=float(call["eps"]))


def _windows(call: Call) -> dict[str, Any]:
    kernel = _pair(call["kernel_size"])
    stride = _pair(call["stride"]) if call["stride"] else kernel
    return {"kernel": kernel, "stride": stride, "padding": _pair(call["padding"]), "ceil_mode": bool(call["ceil_mode"])}


def _max_pool2d(call: Call) -> str | None:
    if len(call.shape) != 4:
        return None
    return call.add("max_pool2d", [call["self"].name], dilation=_pair(call["dilation"]), **_windows(call))


def _avg_pool2d(call: Call) -> str | None:
    if len(call.shape) != 4 or call["divisor_override"] is not None:
        return None
    include = bool(call["count_include_pad"])
    return call.add("avg_pool2d", [call["self"].name], count_include_pad=include, **_windows(call))


def _adaptive_avg_pool2d(call: Call) -> str | None:
    if len(call.shape) != 4:
        return None
    given, wanted = call.shape_of("self")[2:], call.shape[2:]
    if given == wanted:
        return _same(call)
    if wanted == (1, 1):
        return call.add("global_avg_pool", [call["self"].name])
    if any(extent % size for extent, size in zip(given, wanted)):
        return None
    kernel = (given[0] // wanted[0], given[1] // wanted[1])
    return call.add(
        "avg_pool2d", [call["self"].name], kernel=kernel, stride=kernel, padding=(0, 0), ceil_mode=False,
        count_include_pad=True,
    )  # fmt: skip


def _mean(call: Call) -> str | None:
    given = call.shape_of("self")
    if len(given) != 4 or call["dim"] is None or {axis % 4 for axis in call["dim"]} != {2, 3}:
        return None
    mean = call.builder.add("global_avg_pool", [call["self"].name], (*given[:2], 1, 1), call.name)
    return mean if call["keepdim"] else call.reshape(mean)


def _softmax(call: Call) -> str:
    return call.add("softmax", [call["self"].name], axis=call["dim"] % max(len(call.shape), 1))


def _same(call: Call) -> str:
    """Nothing happens, as far as values go."""
    return (call["self"] or call["input"]).name


def _dropout(call: Call) -> str | None:
    return None if call["train"] else _same(call)


def _expand(call: Call) -> str | None:
    return _same(call) if call.shape_of("self") == call.shape else None


def _reshape(call: Call) -> str:
    return _same(call) if call.shape_of("self") == call.shape else call.reshape(_same(call))


def _permute(call: Call) -> str:
    rank = len(call.shape)
    return _transposed(call, [axis % rank for axis in call["dims"]])


def _transpose(call: Call) -> str:
    axes = list(range(len(call.shape)))
    first, second = call["dim0"], call["dim1"]
    if axes:
        axes[first], axes[second] = axes[second], axes[first]
    return _transposed(call, axes)


def _reverse(call: Call) -> str:
    return _transposed(call, list(range(len(call.shape)))[::-1])


def _transposed(call: Call, axes: list[int]) -> str:
    if axes == sorted(axes):
        return _same(call)
    return call.add("transpose", [_same(call)], axes=tuple(axes))


def _cat(call: Call) -> str | None:
    names = [part.name for part in call["tensors"]]
    rank = len(call.shape)
    if any(len(call.builder.tensors[name].shape) != rank for name in names):
        return None  # torch passes over empty vectors
    return call.add("concat", names, axis=call["dim"] % rank)


RULES: dict[str, Rule] = {
    **{name: partial(_unary, function=name) for name in UNARY if name not in ("gelu", "gelu_tanh")},
    **{name: partial(_binary, function=name) for name in ("add", "sub", "mul", "div", "pow")},
    "gelu": _gelu, "clamp": _clamp, "clip": _clamp, "clamp_min": _clamp, "clamp_max": _clamp, "hardtanh": _clamp,
    "rsub": partial(_binary, function="sub", swapped=True), "reciprocal": _reciprocal,
    **{name: partial(_binary, function=name[:3]) for name in ("maximum", "minimum", "max", "min")},
    "conv2d": _conv2d, "convolution": _conv2d, **torch_products.RULES, **torch_slices.RULES,
    "batch_norm": _batch_norm, "_native_batch_norm_legit_no_training": _batch_norm, "layer_norm": _layer_norm,
    "native_layer_norm": _layer_norm,
    "max_pool2d": _max_pool2d, "max_pool2d_with_indices": _max_pool2d, "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d, "_adaptive_avg_pool2d": _adaptive_avg_pool2d, "mean": _mean,
    "softmax": _softmax, "_softmax": _softmax,
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"), _reshape),
    "permute": _permute, "transpose": _transpose, "t": _reverse, "numpy_T": _reverse, "cat": _cat, "concat": _cat,
    "dropout": _dropout, "expand": _expand,
    **dict.fromkeys(("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "to", "_to_copy"), _same),
}  # fmt: skip
"""The rule for each ATen operator that has a counterpart, by the name that its overloads share."""

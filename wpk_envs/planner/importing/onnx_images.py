"""Counterparts of ONNX operators on images [N, C, H, W]: convolution, pooling, batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wpk_envs.planner.importing.onnx_call import Call

Pair = tuple[int, int]


def _pair(value: Sequence[int]) -> Pair:
    first, second = value
    return first, second


@dataclass(frozen=True)
class _Windows:
    """How a kernel goes over an image; ``begin`` and ``end`` are the padding above and left, below and right."""

    stride: Pair
    dilation: Pair
    begin: Pair
    end: Pair


def _windows(call: Call, kernel: Pair) -> _Windows:
    stride = _pair(call.attributes.get("strides", (1, 1)))
    dilation = _pair(call.attributes.get("dilations", (1, 1)))
    pads, automatic = call.attributes.get("pads", (0, 0, 0, 0)), call.attributes.get("auto_pad", "NOTSET")
    if not automatic.startswith("SAME"):
        return _Windows(stride, dilation, _pair(pads[:2]), _pair(pads[2:]))
    sizes = zip(call.shape_of(0)[2:], call.shape[2:], stride, kernel, dilation)
    total = [max((out - 1) * step + (size - 1) * gap + 1 - extent, 0) for extent, out, step, size, gap in sizes]
    less, more = _pair([each // 2 for each in total]), _pair([each - each // 2 for each in total])
    return _Windows(stride, dilation, *((less, more) if automatic == "SAME_UPPER" else (more, less)))


def _conv(call: Call) -> str | None:
    if len(call.shape) != 4 or not call.fixed(1, 2):
        return None
    windows = _windows(call, _pair(call.shape_of(1)[2:]))
    padding, inputs = windows.begin, call.names()
    if windows.begin != windows.end:
        padding, inputs = (0, 0), [_padded(call, windows), *inputs[1:]]
    return call.add(
        "conv2d", inputs, stride=windows.stride, padding=padding, dilation=windows.dilation,
        groups=call.attributes.get("group", 1), bias=len(inputs) == 3, residual=False, activation="none",
    )  # fmt: skip


def _padded(call: Call, windows: _Windows) -> str:
    """The image with zeros around it: ``conv2d`` itself pads both sides alike."""
    (top, left), (bottom, right) = windows.begin, windows.end
    batch, channels, height, width = call.shape_of(0)
    shape = (batch, channels, height + top + bottom, width + left + right)
    arguments = {"self": {"tensor": 0}, "pad": [left, right, top, bottom], "value": 0.0}
    attributes = {"framework": "torch", "target": "aten.constant_pad_nd.default", "arguments": arguments}
    return call.builder.add("framework", [call.x], shape, f"{call.name}.pad", attributes)


def _batch_norm(call: Call) -> str | None:
    training = call.attributes.get("training_mode", 0) or call.opset < 9
    if training or not call.fixed(1, 2, 3, 4):
        return None
    return call.add("batch_norm", call.names(), epsilon=call.attributes.get("epsilon", 1e-5))


def _pool(call: Call) -> tuple[dict[str, Any], Pair] | None:
    """What both kinds of pooling have in common, and the dilation; none where torch would count windows otherwise."""
    if len(call.shape) != 4:
        return None
    kernel = _pair(call.attributes["kernel_shape"])
    windows = _windows(call, kernel)
    padding, ceil = windows.begin, bool(call.attributes.get("ceil_mode", 0))
    if windows.begin != windows.end or any(2 * pad > size for pad, size in zip(padding, kernel)):
        return None
    sizes = zip(call.shape_of(0)[2:], kernel, windows.stride, padding, windows.dilation)
    if call.shape[2:] != tuple(_outputs(*each, ceil) for each in sizes):
        return None
    return {"kernel": kernel, "stride": windows.stride, "padding": padding, "ceil_mode": ceil}, windows.dilation


def _outputs(extent: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    """How many windows torch's pooling has along an axis: none starts in the padding behind."""
    span = extent + 2 * padding - dilation * (kernel - 1) - 1
    count = (span + (stride - 1 if ceil else 0)) // stride + 1
    return count - 1 if ceil and (count - 1) * stride >= extent + padding else count


def _max_pool(call: Call) -> str | None:
    pool = _pool(call)
    return None if pool is None else call.add("max_pool2d", [call.x], dilation=pool[1], **pool[0])


def _average_pool(call: Call) -> str | None:
    pool = _pool(call)
    if pool is None or pool[1] != (1, 1) or pool[0]["ceil_mode"]:
        return None
    include = bool(call.attributes.get("count_include_pad", 0))
    return call.add("avg_pool2d", [call.x], count_include_pad=include, **pool[0])


def _global_average_pool(call: Call) -> str | None:
    return call.add("global_avg_pool", [call.x]) if len(call.shape) == 4 else None


def _reduce_mean(call: Call) -> str | None:
    given, axes = call.shape_of(0), call.parameter("axes", 1)
    if len(given) != 4 or not axes or {axis % 4 for axis in axes} != {2, 3} or not call.fixed(1):
        return None
    return call.reshape(call.builder.add("global_avg_pool", [call.x], (*given[:2], 1, 1), call.name))


RULES = {
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "ReduceMean": _reduce_mean,
}
"""The rule for each operator on images."""

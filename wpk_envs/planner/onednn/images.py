"""Pooling, normalisation and elementwise operations as primitives of oneDNN."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.onednn.drafts import Draft

FUNCTIONS: dict[str, tuple[str, float, float]] = {
    "relu": ("relu", 0.0, 0.0),
    "relu6": ("clip", 0.0, 6.0),
    "gelu": ("gelu_erf", 0.0, 0.0),
    "gelu_tanh": ("gelu_tanh", 0.0, 0.0),
    "sigmoid": ("logistic", 0.0, 0.0),
    "tanh": ("tanh", 0.0, 0.0),
    "silu": ("swish", 1.0, 0.0),
    "hardswish": ("hardswish", 1 / 6, 0.5),
    "hardsigmoid": ("hardsigmoid", 1 / 6, 0.5),
    "exp": ("exp", 0.0, 0.0),
    "sqrt": ("sqrt", 0.0, 0.0),
    "neg": ("linear", -1.0, 0.0),
}
"""oneDNN's name, alpha and beta of each elementwise function that it has."""

COMMUTATIVE = ("add", "mul", "max", "min")
BINARY = (*COMMUTATIVE, "sub", "div")


def unary(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """An elementwise function in every layout."""
    function = node.attributes["function"]
    if function not in FUNCTIONS:
        return
    algorithm, alpha, beta = FUNCTIONS[function]
    for draft, layout in _each(graph, node, allowed, kind="eltwise", algorithm=algorithm, alpha=alpha, beta=beta):
        shape = _flat(draft.out_shape)
        draft.settings["sources"] = [draft.reads("source", 0, layout, shape)]
        draft.settings["destination"] = draft.writes(layout, shape)
        yield draft


def binary(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """An elementwise function of two tensors, the smaller one broadcast."""
    function = node.attributes["function"]
    if function not in BINARY:
        return
    for draft, layout in _each(graph, node, allowed, kind="binary", algorithm=function):
        shape = draft.out_shape
        whole = [place for place in (0, 1) if draft.shape(place) == shape]
        if not whole or (whole[0] == 1 and function not in COMMUTATIVE):
            continue
        first, second = whole[0], 1 - whole[0]
        if not draft.is_constant(second) and not layouts.fits(layout, draft.shape(second)):
            continue
        same = draft.shape(second) == shape
        padded = (1,) * (len(shape) - len(draft.shape(second))) + draft.shape(second)
        draft.settings["sources"] = [
            draft.reads("source", first, layout, _flat(shape) if same else shape),
            draft.reads("source_1", second, layout, _flat(shape) if same else padded),
        ]
        draft.settings["destination"] = draft.writes(layout, _flat(shape) if same else shape)
        yield draft


def batch_norm(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """Normalisation by stored statistics."""
    for draft, layout in _each(graph, node, allowed, kind="batch_normalization", epsilon=node.attributes["epsilon"]):
        draft.settings["sources"] = [draft.reads("source", 0, layout)]
        for place, argument in enumerate(("scale", "shift", "mean", "variance"), start=1):
            draft.reads(argument, place, layouts.PLAIN)
        draft.settings["destination"] = draft.writes(layout)
        yield draft


def layer_norm(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """Normalisation of the last axis, all others as rows."""
    draft = Draft(graph, node, {"kind": "layer_normalization", "epsilon": node.attributes["epsilon"]})
    *rows, columns = draft.out_shape
    draft.settings["sources"] = [draft.reads("source", 0, layouts.PLAIN, (math.prod(rows), columns))]
    draft.reads("scale", 1, layouts.PLAIN)
    draft.reads("shift", 2, layouts.PLAIN)
    draft.settings["destination"] = draft.writes(layouts.PLAIN, (math.prod(rows), columns))
    yield draft


def softmax(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """Softmax along any axis in every layout."""
    axis = node.attributes["axis"]
    for draft, layout in _each(graph, node, allowed, kind="softmax", algorithm="softmax", axis=axis):
        draft.settings["sources"] = [draft.reads("source", 0, layout)]
        draft.settings["destination"] = draft.writes(layout)
        yield draft


def max_pool2d(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """The largest of each window."""
    dilation = [step - 1 for step in node.attributes["dilation"]]
    yield from _pooling(graph, node, allowed, algorithm="max_pool", dilation=dilation)


def avg_pool2d(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """The mean of each window, of all of it or of what lies in the image."""
    included = node.attributes["count_include_pad"] and tuple(node.attributes["padding"]) != (0, 0)
    if included and node.attributes["ceil_mode"]:
        return  # torch counts less than oneDNN of the windows that leave the padded image
    yield from _pooling(graph, node, allowed, algorithm="avg_pool_with_padding" if included else "avg_pool")


def global_avg_pool(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """The mean of an image, as a window that is as large."""
    height, width = graph.tensors[node.inputs[0]].shape[2:]
    window = {"kernel": [height, width], "stride": [1, 1], "before": [0, 0], "after": [0, 0]}
    yield from _pool(graph, node, allowed, algorithm="avg_pool", **window)


def _pooling(graph: Graph, node: Node, allowed: Sequence[str], **settings: Any) -> Iterator[Draft]:
    kernel, stride, before = (list(node.attributes[name]) for name in ("kernel", "stride", "padding"))
    image, out = graph.tensors[node.inputs[0]].shape[2:], graph.tensors[node.output].shape[2:]
    reach = [(size - 1) * (step + 1) + 1 for size, step in zip(kernel, settings.get("dilation", (0, 0)))]
    needed = [(out[i] - 1) * stride[i] + reach[i] - image[i] - before[i] for i in (0, 1)]
    after = [max(pair) for pair in zip(needed, before)] if node.attributes["ceil_mode"] else before
    yield from _pool(graph, node, allowed, kernel=kernel, stride=stride, before=before, after=after, **settings)


def _pool(graph: Graph, node: Node, allowed: Sequence[str], **settings: Any) -> Iterator[Draft]:
    for draft, layout in _each(graph, node, allowed, kind="pooling", **settings):
        draft.settings["sources"] = [draft.reads("source", 0, layout)]
        draft.settings["destination"] = draft.writes(layout)
        yield draft


def _each(graph: Graph, node: Node, allowed: Sequence[str], **settings: Any) -> Iterator[tuple[Draft, str]]:
    """An empty draft for each layout that the output can have."""
    for layout in allowed:
        if layouts.fits(layout, graph.tensors[node.output].shape):
            yield Draft(graph, node, dict(settings)), layout


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """An elementwise function's shape: images as they are, everything else in a row."""
    return shape if len(shape) == 4 else (math.prod(shape),)

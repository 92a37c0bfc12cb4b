"""Descriptions of primitives for a node, before one of oneDNN's implementations of them is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, product
from operator import mul
from typing import Any

from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Graph, Node

Described = dict[str, Any]
"""A tensor as `wpk_envs.planner.onednn.library` describes it."""

ACTIVATIONS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "relu": [{"algorithm": "relu"}],
    "relu6": [{"algorithm": "clip", "alpha": 0.0, "beta": 6.0}],
    "gelu": [{"algorithm": "gelu_erf"}],
}
"""The post-op of each activation of `wpk_envs.planner.operations.ACTIVATIONS`."""


@dataclass
class Draft:
    """A primitive that computes a node.

    Attributes:
        graph: The node's graph.
        node: The node.
        settings: The description, without the implementation and the threads.
        inputs: Layout of each activation of the node, by its place among the node's inputs.
        outputs: Layout of each output.
    """

    graph: Graph
    node: Node
    settings: dict[str, Any]
    inputs: dict[int, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def reads(self, argument: str, place: int, layout: str, shape: Sequence[int] | None = None) -> Described:
        """Let an argument of the primitive be one of the node's inputs.

        Args:
            argument: Its name.
            place: Which input.
            layout: Its layout; a constant is brought into it ahead of time.
            shape: Its canonical shape if the primitive sees it with another one.
        """
        shape = self.shape(place) if shape is None else tuple(shape)
        name = self.node.inputs[place]
        arguments = self.settings.setdefault("arguments", {})
        if name in self.graph.constants:
            self.settings.setdefault("constants", {})[argument] = {
                "input": place,
                "shape": list(shape),
                "layout": layout,
            }
            arguments[argument] = ["constants", argument]
        else:
            before = (other for other in self.node.inputs[:place] if other not in self.graph.constants)
            arguments[argument] = ["inputs", len(list(before))]
            self.inputs[place] = layout
        return described(shape, layout)

    def writes(self, layout: str, shape: Sequence[int] | None = None) -> Described:
        """Let the destination be the node's output; returns its description."""
        self.settings.setdefault("arguments", {})["destination"] = ["outputs", 0]
        self.outputs = (layout,)
        return described(self.out_shape if shape is None else shape, layout)

    def shape(self, place: int) -> tuple[int, ...]:
        """Canonical shape of an input of the node."""
        return self.graph.tensors[self.node.inputs[place]].shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Canonical shape of the node's output."""
        return self.graph.tensors[self.node.output].shape

    def is_constant(self, place: int) -> bool:
        """Whether an input of the node is a constant."""
        return self.node.inputs[place] in self.graph.constants


def described(shape: Sequence[int], layout: str = layouts.PLAIN) -> Described:
    """A tensor that fills its buffer, of a canonical shape in a layout."""
    block = layouts.block_of(layout)
    if block is not None:
        return {"dims": list(shape), "block": block}
    if layout == layouts.NHWC:
        _, channels, height, width = shape
        return {"dims": list(shape), "strides": [height * width * channels, 1, width * channels, channels]}
    return {"dims": list(shape), "strides": strides(shape)}


def strides(shape: Sequence[int]) -> list[int]:
    """Elements from one index of each axis to the next, row by row."""
    return list(accumulate([1, *reversed(shape[1:])], mul))[::-1] if shape else []


def finish(draft: Draft, place: int) -> None:
    """Describe what a product ends with: the residual, if there is one, then the activation.

    Args:
        draft: With its destination described; the residual lies as that does.
        place: Which of the node's inputs the residual is.
    """
    attributes = draft.node.attributes
    post_ops: list[dict[str, Any]] = []
    if attributes.get("residual"):
        draft.reads("operand_0", place, draft.outputs[0])
        post_ops.append({"algorithm": "add", "operand": draft.settings["destination"]})
    draft.settings["post_ops"] = post_ops + ACTIVATIONS[attributes.get("activation", "none")]


def layout_pairs(allowed: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Layouts of an image that is read and one that is written: the same, or what a primitive may well convert."""
    known = list(allowed)
    yield from ((layout, layout) for layout in known)
    for source, destination in product(known, known):
        blocked = layouts.block_of(source) and layouts.block_of(destination)
        if source != destination and destination != layouts.PLAIN and not blocked:
            yield source, destination

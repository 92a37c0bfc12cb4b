"""Primitives of oneDNN that only move elements: other layouts, other orders of axes, tensors side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.onednn.drafts import Draft, strides


def convert(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """The same image in another layout."""
    if not {node.attributes["from"], node.attributes["to"]}.issubset(allowed):
        return
    draft = Draft(graph, node, {"kind": "reorder"})
    draft.settings["sources"] = [draft.reads("source", 0, node.attributes["from"])]
    draft.settings["destination"] = draft.writes(node.attributes["to"])
    yield draft


def transpose(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """Axes in another order."""
    draft = Draft(graph, node, {"kind": "reorder"})
    axes, shape = node.attributes["axes"], draft.shape(0)
    draft.reads("source", 0, layouts.PLAIN)
    steps = strides(shape)
    draft.settings["sources"] = [{"dims": [shape[axis] for axis in axes], "strides": [steps[axis] for axis in axes]}]
    draft.settings["destination"] = draft.writes(layouts.PLAIN)
    yield draft


def concat(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """Tensors side by side, all in one layout; blocks of channels only where no tensor fills one in part."""
    axis = node.attributes["axis"]
    for layout in allowed:
        draft = Draft(graph, node, {"kind": "concat", "axis": axis})
        shapes = [draft.shape(place) for place in range(len(node.inputs))]
        block = layouts.block_of(layout)
        torn = block is not None and axis == 1 and any(shape[1] % block for shape in shapes)
        if torn or not layouts.fits(layout, draft.out_shape):
            continue
        draft.settings["sources"] = [draft.reads(f"part_{place}", place, layout) for place in range(len(shapes))]
        draft.settings["destination"] = draft.writes(layout)
        yield draft

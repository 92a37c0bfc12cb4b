"""From a framework's model to a graph: ``import_model(source_of("resnet18"))``."""

from __future__ import annotations

from wpk_envs.planner.graph import Graph
from wpk_envs.planner.importing.source import Source, check_spec, source_of

__all__ = ["Source", "check_spec", "import_model", "source_of"]


def import_model(source: Source) -> Graph:
    """The graph of a model; operations that have no counterpart of our own become ``framework`` nodes.

    Args:
        source: The model.

    Raises:
        UserError: If the model cannot be read: dynamic shapes, another type than float32, no static export.
    """
    if source.kind == "onnx":
        from wpk_envs.planner.importing import onnx_graph

        return onnx_graph.graph_of(source)
    from wpk_envs.planner.importing import torch_graph

    return torch_graph.graph_of(source)

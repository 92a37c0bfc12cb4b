"""Dead code elimination."""

from __future__ import annotations

from wpk_envs.planner.graph import Graph


def eliminate_dead_code(graph: Graph) -> Graph:
    """Remove operations whose results nobody reads."""
    read = set(graph.outputs)
    live = []
    for node in reversed(graph.nodes):
        if not read.isdisjoint(node.outputs):
            live.append(node)
            read.update(node.inputs)
    return graph if len(live) == len(graph.nodes) else graph.with_nodes(reversed(live))

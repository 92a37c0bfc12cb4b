"""A graph while a pass changes it, and the sweep that every rewriting pass is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from wpk_envs.planner.graph import Graph, Node, Tensor, unused_name


class Draft:
    """A graph whose nodes are visited in order and kept, replaced or removed.

    A rule sees a node and everything before it. What it puts in a node's place may read whatever the node could, so the
    order stays valid. Nodes that a change leaves without readers go with it.

    Attributes:
        before: The graph as it was.
        tensors: Shape and type of every tensor by name.
        constants: Values by name.
    """

    def __init__(self, graph: Graph) -> None:
        self.before = graph
        self.tensors = dict(graph.tensors)
        self.constants = dict(graph.constants)
        self._nodes: dict[str, Node] = {}
        self._makers: dict[str, Node] = {}
        self._uses = graph.uses()
        self._renamed: dict[str, str] = {}
        self._names: dict[str, None] = dict.fromkeys(node.name for node in graph.nodes)

    def maker(self, tensor: str, *ops: str) -> Node | None:
        """The node that makes a tensor, if it is of one of these operations."""
        node = self._makers.get(tensor)
        return node if node is not None and node.op in ops else None

    def sole_maker(self, tensor: str, *ops: str) -> Node | None:
        """The node that makes a tensor, if it is of one of these operations and the tensor is read only once."""
        return self.maker(tensor, *ops) if self._uses[tensor] == 1 else None

    def views(self, tensor: str) -> list[Node]:
        """The reshapes and transposes that lead to a tensor, the last one first, each result read only once."""
        found: list[Node] = []
        while (view := self.sole_maker(tensor, "reshape", "transpose")) is not None:
            found.append(view)
            (tensor,) = view.inputs
        return found

    def behind_views(self, tensor: str) -> str:
        """The tensor that `views` lead from: the same elements in another order."""
        views = self.views(tensor)
        return views[-1].inputs[0] if views else tensor

    def constant(self, wanted: str, value: Any) -> str:
        """Add a float32 constant; returns its name, ``wanted`` if that is free."""
        array = np.array(value, dtype=np.float32)
        name = self.tensor(wanted, array.shape)
        self.constants[name] = array
        return name

    def tensor(self, wanted: str, shape: tuple[int, ...]) -> str:
        """Declare a float32 tensor; returns its name, ``wanted`` if that is free."""
        name = unused_name(wanted, self.tensors)
        self.tensors[name] = Tensor(shape)
        return name

    def node_name(self, wanted: str) -> str:
        """A name for a new node: ``wanted`` if that is free."""
        name = unused_name(wanted, self._names)
        self._names[name] = None
        return name

    def visited(self, node: Node) -> Node:
        """A node of the graph as it reads now, after changes before it."""
        return replace(node, inputs=tuple(self._renamed.get(name, name) for name in node.inputs))

    def keep(self, node: Node) -> None:
        """Leave the visited node as it is."""
        self._nodes[node.name] = node
        self._makers |= dict.fromkeys(node.outputs, node)

    def put(self, node: Node, *instead_of: Node) -> None:
        """Place a node here, and remove others whose work it does."""
        self._uses.update(node.inputs)
        for old in instead_of:
            self.remove(old)
        self.keep(node)

    def change(self, old: Node, new: Node) -> None:
        """Replace a node where it stands; the new one reads nothing that is made later."""
        self._uses.update(new.inputs)
        self.keep(new)
        self._release(old)

    def substitute(self, node: Node, tensor: str) -> None:
        """Remove the visited node; whoever reads its output reads ``tensor`` from now on."""
        self._renamed[node.output] = tensor
        self._uses[tensor] += self._uses.pop(node.output, 0)
        self.remove(node)

    def remove(self, node: Node) -> None:
        """Remove a node, and what it alone read."""
        self._nodes.pop(node.name, None)
        self._release(node)

    def _release(self, node: Node) -> None:
        self._uses.subtract(node.inputs)
        makers = (self._makers[name] for name in set(node.inputs) if name in self._makers)
        for maker in makers:
            if self._nodes.get(maker.name) is maker and not any(map(self._uses.get, maker.outputs)):
                self.remove(maker)

    def graph(self) -> Graph:
        """The changed graph; its outputs keep their names, unless they are inputs, constants or other outputs now."""
        outputs = tuple(self._renamed.get(name, name) for name in self.before.outputs)
        made = {name for node in self._nodes.values() for name in node.outputs}.difference(self.before.outputs)
        named = {new: old for new, old in zip(outputs, self.before.outputs) if new in made}

        def rename(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(named.get(name, name) for name in names)

        nodes = (
            replace(node, inputs=rename(node.inputs), outputs=rename(node.outputs)) for node in self._nodes.values()
        )
        changed = replace(self.before, outputs=rename(outputs), tensors=self.tensors, constants=self.constants)
        return changed.with_nodes(nodes)


Rule = Callable[[Draft, Node], bool]
"""Changes the draft around the visited node and returns true, or leaves it alone and returns false."""


def sweep(graph: Graph, rule: Rule) -> Graph:
    """Visit every node once with a rule; the same graph if it changed nothing."""
    draft = Draft(graph)
    changed = False
    for original in graph.nodes:
        node = draft.visited(original)
        if rule(draft, node):
            changed = True
        else:
            draft.keep(node)
    return draft.graph() if changed else graph


def exhaust(graph: Graph, rule: Rule) -> Graph:
    """Sweep with a rule until it finds nothing to change."""
    while (changed := sweep(graph, rule)) is not graph:
        graph = changed
    return graph

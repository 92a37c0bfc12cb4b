"""Every prefix of a small space as a node of a tree, in arrays: what makes many episodes one array operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from wpk_envs.envs.observation import Observer
from wpk_envs.schedules.space import INVALID_NODE, ScheduleSpace

NO_CONFIG = -1
"""In place of a config's number: of a node that is none."""


class PrefixTree:
    """The prefixes of a space's configs, the root first, level by level; the last level are the configs.

    Args:
        space: A space that is small enough to be listed: it takes some kilobytes a config.
        observer: Writes the observations.

    Attributes:
        vectors: All configs in lexicographic order, ``int16[configs, knobs]``.
        paths: The nodes from the root to every config, ``int32[configs, knobs + 1]``.
        children: Node after every option, `INVALID_NODE` if nothing valid follows, ``int32[nodes, width]``.
        depth: Knobs that are set, ``int16[nodes]``.
        below: Configs below every node, ``int32[nodes]``.
        observations: What an agent sees there in ``construct``, ``float32[nodes, fields]``.
        first_leaf: The node of the first config; the others follow in order.
    """

    def __init__(self, space: ScheduleSpace, observer: Observer) -> None:
        self.vectors = np.array(list(space), dtype=np.int16)
        self.paths = _paths(self.vectors)
        self.first_leaf = int(self.paths[0, -1])
        nodes = int(self.paths[-1, -1]) + 1
        width, length = space.encoding.width, space.length
        self.children = np.full((nodes, width), INVALID_NODE, dtype=np.int32)
        self.depth = np.zeros(nodes, dtype=np.int16)
        self._first_row = np.zeros(nodes, dtype=np.int32)
        for depth in range(length + 1):
            self.depth[self.paths[:, depth]] = depth
            self._first_row[self.paths[::-1, depth]] = np.arange(len(self.vectors))[::-1]
            if depth < length:
                self.children[self.paths[:, depth], self.vectors[:, depth]] = self.paths[:, depth + 1]
        self.below = np.bincount(self.paths.ravel(), minlength=nodes).astype(np.int32)
        self.observations = np.stack(list(self._observed(space, observer)))

    def _observed(self, space: ScheduleSpace, observer: Observer) -> Iterator[np.ndarray]:
        """The observation of every node, made from its parent's, which comes earlier."""
        seen: list[np.ndarray] = []
        for row, depth in zip(self._first_row.tolist(), self.depth.tolist()):
            if not depth:
                observation = observer.blank()
            else:
                vector = self.vectors[row].tolist()
                observation = seen[self.paths[row, depth - 1]].copy()
                observer.set_knob(observation, depth - 1, vector[depth - 1])
                partial = space.decode(vector[:depth])
                if space.encoding.knobs[depth - 1].name in partial:
                    observer.set_static(observation, partial)
            seen.append(observation)
            yield observation


class Forest:
    """Trees of several spaces over one encoding, numbered through: their nodes and configs one after the other.

    Args:
        trees: At least one; they are not used any more.

    Attributes:
        roots: The root of every tree, ``int64[trees]``.
        tree: Which tree a node is of, ``int16[nodes]``.
        config: Number of the config that a node is, `NO_CONFIG` of all others, ``int32[nodes]``.
        vectors: As of `PrefixTree`, of all trees; so are ``paths``, ``children``, ``depth``, ``below`` and
            ``observations``.
        masks: Options that lead on, ``bool[nodes, width]``.
    """

    def __init__(self, trees: Sequence[PrefixTree]) -> None:
        sizes = [len(tree.depth) for tree in trees]
        self.roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.tree = np.repeat(np.arange(len(trees), dtype=np.int16), sizes)
        self.vectors = np.concatenate([tree.vectors for tree in trees])
        self.paths = np.concatenate([tree.paths + root for tree, root in zip(trees, self.roots)]).astype(np.int32)
        self.children = np.concatenate([_moved(tree.children, root) for tree, root in zip(trees, self.roots)])
        self.depth = np.concatenate([tree.depth for tree in trees])
        self.below = np.concatenate([tree.below for tree in trees])
        self.observations = np.concatenate([tree.observations for tree in trees])
        self.masks = self.children != INVALID_NODE
        self.config = np.full(len(self.depth), NO_CONFIG, dtype=np.int32)
        self.config[self.paths[:, -1]] = np.arange(len(self.vectors))


def _moved(children: np.ndarray, root: int) -> np.ndarray:
    return np.where(children == INVALID_NODE, INVALID_NODE, children + root).astype(np.int32)


def _paths(vectors: np.ndarray) -> np.ndarray:
    """The nodes from the root to every config, numbered level by level."""
    count, length = vectors.shape
    starts = np.zeros((count, length + 1), dtype=bool)  # where a node differs from that of the config before
    starts[0] = True
    starts[1:, 1:] = np.logical_or.accumulate(vectors[1:] != vectors[:-1], axis=1)
    within = np.cumsum(starts, axis=0) - 1
    offsets = np.concatenate([[0], np.cumsum(within[-1] + 1)[:-1]])
    return (within + offsets).astype(np.int32)

"""A model, its graph and what both compute, for the tests of the planner's importers."""

import numpy as np
import torch

from wpk_envs.planner.graph import Graph
from wpk_envs.planner.importing import import_model
from wpk_envs.planner.importing.source import Source
from wpk_envs.planner.operations import run

TOLERANCE = 1e-5


def torch_source(module: torch.nn.Module, *inputs: torch.Tensor) -> Source:
    names = tuple(f"x{number}" for number in range(len(inputs)))
    return Source("small", "torch", tuple(each.numpy() for each in inputs), names, module=module.eval())


def agreeing(source: Source) -> Graph:
    """Import a model and compare its graph with the framework, on inputs that it was not imported with."""
    graph = import_model(source)
    inputs = source.random_inputs(seed=5)
    expected = source.reference(inputs)
    found = [value.numpy() for value in run(graph, [torch.from_numpy(each) for each in inputs])]
    assert len(found) == len(expected) == len(graph.outputs)
    for name, value, wanted in zip(graph.outputs, found, expected):
        assert (value.shape, value.dtype) == (wanted.shape, wanted.dtype)
        assert (graph.tensors[name].shape, graph.tensors[name].dtype) == (wanted.shape, wanted.dtype.name)
        assert np.isfinite(wanted).all()
        np.testing.assert_allclose(value, wanted, rtol=TOLERANCE, atol=TOLERANCE * np.abs(wanted).max(initial=1e-6))
    return graph


def operators_of(graph: Graph) -> list[str]:
    """What runs through the framework."""
    return sorted(str(node.attributes["target"]) for node in graph.nodes if node.op == "framework")

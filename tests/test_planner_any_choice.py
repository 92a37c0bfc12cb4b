"""Whatever is chosen for the nodes of a graph, in whichever layouts: the program computes the same, in any memory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.planner_graphs import Builder, random_inputs
from wpk_envs.devices.host import cpu_info
from wpk_envs.planner import operations, passes
from wpk_envs.planner.assembly import assemble
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Implementation, Resources, Target
from wpk_envs.planner.memory import plan_memory
from wpk_envs.planner.offering import Offers
from wpk_envs.planner.planning import image_layouts
from wpk_envs.planner.program import Constants, Program, describe
from wpk_envs.planner.providers import open_providers


def of_everything(batch: int) -> Graph:
    """Odd and even channels, branches, tensors read twice, and pieces of images in and out of one piece."""
    b = Builder()
    x = b.input(batch, 20, 6, 6)
    main = b.unary("relu", b.binary("add", b.conv2d(x, 20, bias=True), x))
    gated = b.binary("mul", main, b.unary("sigmoid", b.add("global_avg_pool", main)))
    wide = b.unary("relu6", b.conv2d(b.add("concat", gated, x, gated, axis=1), 48, 1))
    low, high = b.slice(wide, 1, 0, 16), b.slice(wide, 1, 16, 48)
    deep = b.batch_norm(b.conv2d(b.unary("hardswish", high), 32, 3, groups=32))
    squared = b.add("softmax", b.binary("mul", deep, deep), axis=1)
    small = b.max_pool(b.add("concat", squared, low, b.unary("exp", low), axis=1))
    row = b.gemm(b.reshape(b.add("global_avg_pool", small), batch, 64), 24, bias=True)
    first = b.slice(b.reshape(row, batch, 3, 8), 1, 0, 1)
    return b.graph(small, b.unary("tanh", first), b.slice(deep, 1, 3, 30), b.slice(deep, 2, 2, 5), low, x)


class AnyConversion(Offers):
    """Takes the first conversion that there is, without timing it."""

    def _fastest_conversion(self, tensor: Tensor, source: str, sink: str) -> Implementation:
        node = Node("convert", "convert", ("x",), ("y",), {"from": source, "to": sink})
        return self._offered(Graph("", ("x",), ("y",), (node,), {"x": tensor, "y": tensor}, {}), node)[0]


@pytest.mark.parametrize("batch", [1, 2])
def test_any_choice_computes_the_same(batch: int) -> None:
    graph = of_everything(batch)
    inputs = random_inputs(graph)
    wanted = [value.numpy() for value in operations.run(graph, inputs)]
    optimised, _ = passes.optimise(graph)
    device = cpu_info()
    offering, _ = open_providers(device, None)
    offering.pop("tvm")  # plain tensors only, and slow to compile
    resources = Resources(device.threads, offering["kernels"].functions)  # type: ignore[attr-defined]
    offers = AnyConversion(optimised, offering, Target(device, image_layouts(device)), resources)
    random, used = np.random.default_rng(batch), set()
    for _ in range(8):
        chosen = {node.name: offers.of(node)[random.integers(len(offers.of(node)))] for node in optimised.nodes}
        assembly, constants = assemble(optimised, chosen, offers.conversion), Constants()
        described = describe(assembly, plan_memory(assembly), constants, offering)
        program = Program(described, constants.arrays, resources)
        program.memory[...] = 0xFF  # NaN wherever nothing is written
        for got, value in zip(program.compute([each.numpy() for each in inputs]), wanted):
            np.testing.assert_allclose(got, value, rtol=1e-3, atol=1e-4 * np.abs(value).max())
        used |= {buffer.layout for buffer in assembly.buffers.values()}
    assert used == set(image_layouts(device))

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests.planner_graphs import Builder
from wpk_envs.planner import layouts
from wpk_envs.planner.assembly import VIEW, Assembly, assemble
from wpk_envs.planner.buffers import aligned, arena, part
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Implementation
from wpk_envs.planner.memory import ALIGNMENT, plan_memory

PLAIN = Implementation("synthetic", "plain", ("plain", "plain"), ("plain",))
LAST = Implementation("synthetic", "last", ("NHWC", "NHWC"), ("NHWC",))


def converter(tensor: Tensor, source: str, sink: str) -> Implementation:
    return Implementation("synthetic", f"{source} to {sink}", (source,), (sink,))


def chain(lengths: list[int], skips: list[bool]) -> Graph:
    """Elementwise operations one after the other, some of which read the input again."""
    b = Builder()
    first = x = b.input(1, 4, *(lengths[0],) * 2)
    for skip in skips:
        x = b.binary("add", x, first if skip else x)
    return b.graph(x)


def assembled(graph: Graph, offers: dict[str, Implementation]) -> Assembly:
    return assemble(graph, offers, converter)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_buffers_that_live_together_never_overlap(skips: list[bool], last: list[bool]) -> None:
    graph = chain([5], skips)
    chosen = {node.name: LAST if choice else PLAIN for node, choice in zip(graph.nodes, last)}
    assembly = assembled(graph, chosen)
    plan = plan_memory(assembly)
    alive: dict[str, list[int]] = {name: [-1] for name in assembly.inputs}
    for number, step in enumerate(assembly.steps):
        for name in (*step.inputs, *step.outputs):
            alive.setdefault(name, []).append(number)
    for name in (*assembly.inputs, *assembly.outputs):
        alive[name].append(len(assembly.steps))
    for one in alive:
        for other in alive:
            together = min(alive[one]) <= max(alive[other]) and min(alive[other]) <= max(alive[one])
            if one < other and together:
                a, b = plan.offsets[one], plan.offsets[other]
                sizes = assembly.buffers[one].bytes, assembly.buffers[other].bytes
                assert a + sizes[0] <= b or b + sizes[1] <= a, (one, other)
    assert all(offset % ALIGNMENT == 0 for offset in plan.offsets.values())
    assert plan.bytes <= plan.unshared_bytes


def test_sharing_saves_and_can_be_left_out() -> None:
    graph = chain([8], [False] * 6)
    assembly = assembled(graph, {node.name: PLAIN for node in graph.nodes})
    assert plan_memory(assembly).bytes == 3 * 4 * 8 * 8 * 4, "the input stays, and two take turns"
    assert plan_memory(assembly, share=False).bytes == plan_memory(assembly).unshared_bytes


def test_conversions_come_between_and_once() -> None:
    b = Builder()
    x = b.input(1, 3, 4, 4)
    one = b.unary("relu", x)
    graph = b.graph(b.binary("add", one, one), b.unary("tanh", one))
    relu, add, tanh = graph.nodes
    single = Implementation("synthetic", "plain", ("plain",), ("plain",))
    single_last = Implementation("synthetic", "last", ("NHWC",), ("NHWC",))
    assembly = assembled(graph, {relu.name: single, add.name: LAST, tanh.name: single_last})
    assert [step.node.op for step in assembly.steps] == ["unary", "convert", "binary", "unary", "convert", "convert"]
    assert [assembly.buffers[name].layout for name in assembly.outputs] == ["plain", "plain"]


def test_views_are_no_steps_and_share_memory() -> None:
    b = Builder()
    x = b.unary("relu", b.input(1, 6, 1, 1))
    graph = b.graph(b.unary("tanh", b.reshape(x, 1, 6)))
    single = Implementation("synthetic", "plain", ("plain",), ("plain",))
    view = Implementation(VIEW, "view", ("plain",), ("plain",))
    chosen = {node.name: view if node.op == "reshape" else single for node in graph.nodes}
    assembly = assembled(graph, chosen)
    assert len(assembly.steps) == 2
    plan = plan_memory(assembly)
    assert plan.offsets[assembly.steps[0].outputs[0]] == plan.offsets[assembly.steps[1].inputs[0]]


def test_a_view_of_a_piece_lies_within_its_root() -> None:
    b = Builder()
    x = b.input(1, 8, 16)
    tail = b.slice(b.unary("relu", x), 1, 4, 8)
    row = b.reshape(b.slice(tail, 1, 2, 3), 1, 16)
    graph = b.graph(b.unary("tanh", row), b.slice(x, 1, 1, 3))
    single = Implementation("synthetic", "plain", ("plain",), ("plain",))
    offsets = {"slice1": 256, "slice2": 128, "slice5": 64}
    chosen = {
        node.name: Implementation(VIEW, "view", ("plain",), ("plain",), {"offset": offsets.get(node.name, 0)})
        if node.op in ("slice", "reshape")
        else single
        for node in graph.nodes
    }
    assembly = assembled(graph, chosen)
    placed = plan_memory(assembly)
    assert [step.node.op for step in assembly.steps] == ["unary", "unary"]
    assert placed.offsets[row] == placed.offsets["unary0.out"] + 256 + 128
    assert placed.offsets[assembly.outputs[1]] == placed.offsets[x] + 64
    assert {assembly.root(name) for name in (tail, row)} == {"unary0.out"}
    apart = plan_memory(assembly).offsets
    assert not apart[x] <= apart[assembly.outputs[0]] < apart[x] + 512, "the input is an output, too"


def test_outputs_that_are_inputs_or_constants() -> None:
    b = Builder()
    x = b.input(2, 3)
    constant = b.random(4)
    y = b.unary("relu", x)
    graph = b.graph(x, constant, y, y)
    single = Implementation("synthetic", "plain", ("plain",), ("plain",))
    assembly = assembled(graph, {graph.nodes[0].name: single})
    assert assembly.outputs == (x, constant, y, y)
    assert assembly.constants == {constant: constant}
    offsets = plan_memory(assembly).offsets
    assert len({offsets[name] for name in (x, constant, y)}) == 3


def test_inputs_that_are_indices_are_not_overwritten() -> None:
    b = Builder()
    b.tensors["tokens"] = Tensor((8,), "int64")
    b.inputs.append("tokens")
    b.nodes.append(Node("lookup", "framework", ("tokens",), ("found",)))
    b.tensors["found"] = Tensor((16,))
    graph = b.graph(b.unary("exp", b.unary("tanh", b.unary("relu", "found"))))
    single = Implementation("synthetic", "plain", ("plain",), ("plain",))
    offsets = plan_memory(assembled(graph, {node.name: single for node in graph.nodes})).offsets
    assert list(offsets.values()).count(offsets["tokens"]) == 1


def test_memory_is_aligned() -> None:
    memory = arena(1000)
    assert memory.ctypes.data % ALIGNMENT == 0
    assert part(memory, 64, (2, 3), "float32").shape == (2, 3)
    odd = np.zeros(65, np.float32)[1:]
    assert aligned(odd).ctypes.data % ALIGNMENT == 0
    assert aligned(aligned(odd)) is not odd


@settings(deadline=None)
@given(st.sampled_from(["plain", "NHWC", "NCHW8c", "NCHW16c"]), st.integers(1, 40))
def test_layouts_keep_every_element(layout: str, channels: int) -> None:
    number = np.array(3.0, np.float32)
    assert layouts.to_buffer(number, "plain").shape == ()
    array = np.arange(2 * channels * 3 * 4, dtype=np.float32).reshape(2, channels, 3, 4)
    buffer = layouts.to_buffer(array, layout)
    assert buffer.shape == layouts.buffer_shape(layout, array.shape)
    assert np.array_equal(layouts.from_buffer(buffer, layout, array.shape), array)


SHAPES = st.sampled_from([(1, 32, 3, 4), (1, 24, 1, 4), (2, 32, 2, 2), (1, 1, 1, 5), (1, 40, 2, 1)])


@given(st.data(), st.sampled_from(["plain", "NHWC", "NCHW8c", "NCHW16c"]), SHAPES, st.integers(0, 3))
def test_slices_in_one_piece_are_found_where_they_are(
    data: DataObject, layout: str, shape: tuple[int, ...], axis: int
) -> None:
    start = data.draw(st.integers(0, shape[axis]))
    stop = data.draw(st.integers(start, shape[axis]))
    array = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    sliced = array[(slice(None),) * axis + (slice(start, stop),)]
    whole, part_ = layouts.to_buffer(array, layout).ravel(), layouts.to_buffer(sliced, layout).ravel()
    offset = layouts.slice_offset(layout, shape, axis, start, stop)
    places = [at for at in range(whole.size - part_.size + 1) if np.array_equal(whole[at : at + part_.size], part_)]
    if offset is not None:
        assert offset in places
    elif part_.size and layout in ("plain", "NHWC"):
        assert not places

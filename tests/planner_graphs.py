"""Graphs built by hand, and what holds for every pass: a valid graph with the same results."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math

import numpy as np
import torch

from wpk_envs.planner import operations
from wpk_envs.planner.graph import Graph, Node, Tensor


class Builder:
    """Collects nodes; every method returns the name of the tensor that it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs: list[str] = []
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, np.ndarray] = {}

    def input(self, *shape: int) -> str:
        name = f"input{len(self.inputs)}"
        self.inputs.append(name)
        self.tensors[name] = Tensor(shape)
        return name

    def constant(self, value) -> str:
        array = np.array(value, dtype=np.float32)
        name = f"constant{len(self.constants)}"
        self.constants[name] = array
        self.tensors[name] = Tensor(array.shape)
        return name

    def random(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(scale * self.rng.standard_normal(shape))

    def add(self, op: str, *inputs: str, **attributes) -> str:
        name = f"{op}{len(self.nodes)}"
        node = Node(name, op, inputs, (f"{name}.out",), attributes)
        (result,) = operations.evaluate(node, [self._meta(tensor) for tensor in inputs])
        self.nodes.append(node)
        self.tensors[node.output] = Tensor(tuple(result.shape))
        return node.output

    def _meta(self, tensor: str) -> torch.Tensor:
        return torch.empty(self.tensors[tensor].shape, device="meta")

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self.tensors[tensor].shape

    def conv2d(self, x: str, filters: int, kernel: int = 3, stride: int = 1, groups: int = 1, bias=False) -> str:
        channels = self.shape(x)[1] // groups
        weight = self.random(filters, channels, kernel, kernel, scale=1 / math.sqrt(channels * kernel * kernel))
        biases = (self.random(filters),) if bias else ()
        return self.add(
            "conv2d", x, weight, *biases, stride=(stride, stride), padding=(kernel // 2,) * 2, dilation=(1, 1),
            groups=groups, bias=bias,
        )  # fmt: skip

    def gemm(self, x: str, n: int, bias=False) -> str:
        k = self.shape(x)[-1]
        biases = (self.random(n),) if bias else ()
        return self.add("gemm", x, self.random(k, n, scale=1 / math.sqrt(k)), *biases, bias=bias)

    def batch_norm(self, x: str) -> str:
        channels = self.shape(x)[1]
        gamma, beta, mean = (self.random(channels) for _ in range(3))
        variance = self.constant(self.rng.uniform(0.5, 2.0, channels))
        return self.add("batch_norm", x, gamma, beta, mean, variance, epsilon=1e-5)

    def unary(self, function: str, x: str) -> str:
        return self.add("unary", x, function=function)

    def binary(self, function: str, x: str, y: str) -> str:
        return self.add("binary", x, y, function=function)

    def reshape(self, x: str, *shape: int) -> str:
        return self.add("reshape", x, shape=shape)

    def transpose(self, x: str, *axes: int) -> str:
        return self.add("transpose", x, axes=axes)

    def slice(self, x: str, axis: int, start: int, stop: int) -> str:
        return self.add("slice", x, axis=axis, start=start, stop=stop)

    def max_pool(self, x: str) -> str:
        return self.add("max_pool2d", x, kernel=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1), ceil_mode=False)

    def graph(self, *outputs: str) -> Graph:
        return Graph("model", tuple(self.inputs), outputs, tuple(self.nodes), self.tensors, self.constants)


def small_net(size: int = 16, width: int = 32) -> Graph:
    """Convolutions with a shortcut, pooling and a classifier, as an importer gives them."""
    b = Builder()
    x = b.input(1, 3, size, size)
    x = b.max_pool(b.unary("relu", b.batch_norm(b.conv2d(x, width, 3))))
    main = b.unary("relu", b.batch_norm(b.conv2d(x, width)))
    x = b.unary("relu", b.binary("add", b.batch_norm(b.conv2d(main, width)), x))
    x = b.reshape(b.add("global_avg_pool", x), 1, width)
    return b.graph(b.gemm(x, 10, bias=True))


def resnet18(size: int = 224) -> Graph:
    """As frameworks write it: batch normalisation apart, the projection after the main branch."""
    b = Builder()
    x = b.input(1, 3, size, size)
    x = b.max_pool(b.unary("relu", b.batch_norm(b.conv2d(x, 64, 7, 2))))
    for width, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first_stride, 1):
            main = b.unary("relu", b.batch_norm(b.conv2d(x, width, 3, stride)))
            main = b.batch_norm(b.conv2d(main, width))
            if b.shape(x) != b.shape(main):
                x = b.batch_norm(b.conv2d(x, width, 1, stride))
            x = b.unary("relu", b.binary("add", main, x))
    x = b.reshape(b.add("global_avg_pool", x), 1, 512)
    return b.graph(b.gemm(x, 1000, bias=True))


def random_inputs(graph: Graph, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = [graph.tensors[name] for name in graph.inputs]
    return [
        torch.randn(tensor.shape, generator=generator)
        if tensor.dtype == "float32"
        else torch.randint(3, tensor.shape, generator=generator)
        for tensor in tensors
    ]


@contextlib.contextmanager
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_valid(graph: Graph) -> None:
    """Names are unique, every node finds its inputs made, and nothing is declared that is not there."""
    made = {*graph.inputs, *graph.constants}
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    for node in graph.nodes:
        assert made.issuperset(node.inputs), node
        assert made.isdisjoint(node.outputs), node
        made.update(node.outputs)
    assert made.issuperset(graph.outputs)
    assert made == graph.tensors.keys()
    for name, value in graph.constants.items():
        assert (value.shape, value.dtype.name) == (graph.tensors[name].shape, graph.tensors[name].dtype)


def assert_same_results(before: Graph, after: Graph, tolerance: float = 1e-5) -> None:
    """Both graphs are valid, declare the shapes they compute, and give the same outputs up to rounding."""
    inputs = random_inputs(before)
    expected, given = (_results(graph, inputs) for graph in (before, after))
    for wanted, result in itertools.zip_longest(expected, given):
        scale = max(1.0, float(wanted.abs().max()))
        assert float((wanted - result).abs().max()) <= tolerance * scale


def _results(graph: Graph, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    assert_valid(graph)
    everything = dataclasses.replace(graph, outputs=tuple(graph.tensors))
    with one_thread():
        values = dict(zip(everything.outputs, operations.run(everything, inputs)))
    for name, value in values.items():
        assert tuple(value.shape) == graph.tensors[name].shape
    return [values[name] for name in graph.outputs]

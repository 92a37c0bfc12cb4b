"""Nodes as operators: the same numbers, and none where operators cannot express a node."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from tests.planner_graphs import Builder, assert_same_results
from wpk_envs.operators import Conv2d, Gemm, suites
from wpk_envs.planner import operations
from wpk_envs.planner.graph import Graph, Tensor
from wpk_envs.planner.importing import import_model, source_of
from wpk_envs.planner.operator_of import operator_of
from wpk_envs.planner.passes import optimise


def only(b: Builder, output: str):
    graph, _ = optimise(b.graph(output))
    (node,) = graph.nodes
    return graph, node


def optimised(model: str) -> Graph:
    before = import_model(source_of(model))
    graph, _ = optimise(before)
    assert_same_results(before, graph)
    return graph


@pytest.mark.parametrize("model", ["resnet18", "resnet50", "mobilenet_v2"])
def test_a_network_of_convolutions_has_the_operators_of_its_suite(model):
    graph = optimised(model)
    found = [operator for node in graph.nodes if (operator := operator_of(graph, node))]
    assert Counter(found) == Counter({member.operator: member.count for member in suites()[model].members})
    others = [*["max_pool2d"] * model.startswith("resnet"), "global_avg_pool", "reshape"]
    assert [node.op for node in graph.nodes if operator_of(graph, node) is None] == others


def test_a_bert_layer_has_the_operators_of_its_suite_except_gelu_and_attention():
    graph = optimised("bert_layer")
    found = Counter(operator for node in graph.nodes if (operator := operator_of(graph, node)))
    members = {m.operator for m in suites()["bert_base"].members if m.operator.m == 128 and m.operator.batch == 1}
    assert members - found.keys() == {Gemm(128, 3072, 768, bias=True)}
    assert found.keys() <= members
    assert found[Gemm(128, 768, 768, bias=True)] == 3
    assert graph.operations() == Counter(gemm=6, reshape=4, layer_norm=2, matmul=2, softmax=1)


def test_a_convolution_computes_what_its_operator_says():
    b = Builder()
    x, other = b.input(2, 4, 9, 7), b.input(2, 6, 5, 5)
    conv = b.add(
        "conv2d",
        x,
        b.random(6, 2, 3, 2),
        b.random(6),
        stride=(2, 2),
        padding=(1, 2),
        dilation=(1, 2),
        groups=2,
        bias=True,
    )
    graph, node = only(b, b.unary("relu6", b.binary("add", conv, other)))
    operator = operator_of(graph, node)
    assert operator == Conv2d(
        batch=2, channels=4, height=9, width=7, filters=6, kernel=(3, 2), stride=2, padding=(1, 2), dilation=(1, 2),
        groups=2, bias=True, residual=True, activation="relu6",
    )  # fmt: skip
    assert_computes(graph, node, operator)


def test_leading_dimensions_of_a_gemm_are_rows():
    b = Builder()
    x, other = b.input(2, 3, 4), b.input(2, 3, 5)
    graph, node = only(b, b.unary("relu", b.binary("add", b.gemm(x, 5, bias=True), other)))
    operator = operator_of(graph, node)
    assert operator == Gemm(6, 5, 4, bias=True, residual=True, activation="relu")
    assert_computes(graph, node, operator)


def assert_computes(graph, node, operator):
    given = operator.random_inputs(np.random.default_rng(0))
    inputs = [
        torch.from_numpy(given[name]).reshape(graph.tensors[tensor].shape)
        for name, tensor in zip(operator.input_shapes, node.inputs)
    ]
    (result,) = operations.evaluate(node, inputs)
    np.testing.assert_allclose(result.numpy().reshape(operator.output_shape), operator.reference(given), atol=1e-5)


def test_what_operators_cannot_express_is_none():
    b = Builder()
    x = b.input(2, 3)
    parts = [b.unary("gelu", b.gemm(x, 4)), b.add("matmul", x, b.transpose(x, 1, 0)), b.unary("relu", x)]
    graph, _ = optimise(b.graph(*parts))
    assert [operator_of(graph, node) for node in graph.nodes if node.op != "transpose"] == [None] * 3


@pytest.mark.parametrize("change", ["dtype", "computed weight", "nothing else", "more rows than a kernel can index"])
def test_operators_are_float32_with_constant_weights_and_of_sizes_that_kernels_take(change):
    b = Builder()
    graph = b.graph(b.gemm(b.input(2, 3), 4))
    (node,) = graph.nodes
    assert operator_of(graph, node) == Gemm(2, 4, 3)
    if change == "dtype":
        graph = dataclasses.replace(graph, tensors={**graph.tensors, node.output: Tensor((2, 4), "float64")})
    elif change == "computed weight":
        graph = dataclasses.replace(graph, constants={})
    elif change == "nothing else":
        graph = dataclasses.replace(graph, constants={**graph.constants, node.inputs[0]: np.ones((2, 3), np.float32)})
    else:
        graph = dataclasses.replace(graph, tensors={**graph.tensors, node.inputs[0]: Tensor((2**30, 3))})
    assert operator_of(graph, node) is None


def test_asymmetric_padding_is_none():
    b = Builder()
    graph = b.graph(b.conv2d(b.input(1, 2, 5, 5), 3))
    node = dataclasses.replace(graph.nodes[0], attributes={**graph.nodes[0].attributes, "padding": (0, 1, 0, 1)})
    assert operator_of(graph, graph.nodes[0]) is not None
    assert operator_of(graph, node) is None

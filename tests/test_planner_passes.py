"""Passes: what each changes, what it leaves alone, and that results stay the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tests.planner_graphs import Builder, assert_same_results, resnet18
from wpk_envs.errors import UserError
from wpk_envs.planner import operations
from wpk_envs.planner.graph import Graph
from wpk_envs.planner.passes import PASSES, optimise


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def after(name: str, before: Graph) -> Graph:
    """The graph after a pass, checked: same results, and a second time changes nothing."""
    result = PASSES[name](before)
    assert_same_results(before, result)
    assert PASSES[name](result) is result
    return result


def counts(graph: Graph) -> dict[str, int]:
    return dict(graph.operations())


# Constants


def test_what_depends_on_constants_alone_is_computed():
    b = Builder()
    x = b.input(2, 3)
    weight = b.transpose(b.binary("mul", b.random(4, 3), b.constant(2.0)), 1, 0)
    graph = after("fold_constants", b.graph(b.add("gemm", x, weight)))
    assert counts(graph) == {"gemm": 1}
    assert len(graph.constants) == 1


def test_a_constant_result_may_be_the_output():
    b = Builder()
    b.input(1)
    graph = after("fold_constants", b.graph(b.unary("neg", b.constant([1.0, -2.0]))))
    assert graph.nodes == ()
    np.testing.assert_array_equal(graph.constants[graph.outputs[0]], [-1.0, 2.0])


def test_a_constant_that_would_be_huge_is_left_to_be_computed():
    b = Builder()
    x = b.input(1, 4096)
    wide = b.binary("add", b.random(4200, 1), b.random(1, 4096))
    graph = PASSES["fold_constants"](b.graph(b.binary("add", x, wide)))
    assert counts(graph) == {"binary": 2}


# Common subexpressions and dead code


def test_equal_operations_are_computed_once_equal_constants_kept_once():
    b = Builder()
    x = b.input(2, 3)
    left, right = (b.unary("relu", b.binary("add", x, b.constant([1.0, 2.0, 3.0]))) for _ in range(2))
    graph = after("eliminate_common_subexpressions", b.graph(b.binary("mul", left, right), right))
    assert counts(graph) == {"binary": 2, "unary": 1}
    assert len(graph.constants) == 1
    assert graph.nodes[-1].inputs == (left, left)
    assert graph.outputs[1] == left


def test_different_attributes_inputs_or_shapes_are_different():
    b = Builder()
    x = b.input(2, 3)
    parts = [b.unary("relu", x), b.unary("tanh", x), b.binary("sub", x, b.constant([1.0] * 3))]
    parts.append(b.binary("sub", x, b.constant([[1.0] * 3])))
    parts.append(b.reshape(x, 3, 2))
    graph = b.graph(*parts)
    assert after("eliminate_common_subexpressions", graph) is graph


def test_dead_operations_go_with_their_constants():
    b = Builder()
    x = b.input(1, 2, 5, 5)
    kept = b.unary("relu", x)
    b.unary("tanh", b.conv2d(kept, 3))
    graph = after("eliminate_dead_code", b.graph(kept))
    assert counts(graph) == {"unary": 1}
    assert not graph.constants


# Batch normalisation


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
def test_batch_norm_folds_into_a_convolution(bias, groups):
    b = Builder()
    x = b.input(2, 4, 6, 5)
    graph = after("fold_batch_norm", b.graph(b.batch_norm(b.conv2d(x, 8, groups=groups, bias=bias))))
    assert counts(graph) == {"conv2d": 1}
    assert graph.nodes[0].attributes["bias"]
    assert len(graph.constants) == 2


def test_batch_norm_folds_into_a_gemm_of_rank_2():
    b = Builder()
    graph = after("fold_batch_norm", b.graph(b.batch_norm(b.gemm(b.input(3, 4), 5))))
    assert counts(graph) == {"gemm": 1}


def test_batch_norm_of_another_axis_than_the_gemms_columns_does_not_fold():
    b = Builder()
    graph = after("fold_batch_norm", b.graph(b.batch_norm(b.gemm(b.input(2, 3, 4), 5))))
    assert counts(graph) == {"gemm": 1, "binary": 2}


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (1, 3, 4, 5)])
def test_batch_norm_that_cannot_fold_becomes_two_operations(shape):
    b = Builder()
    graph = after("fold_batch_norm", b.graph(b.batch_norm(b.unary("relu", b.input(*shape)))))
    assert counts(graph) == {"unary": 1, "binary": 2}


def test_batch_norm_leaves_a_convolution_that_others_read():
    b = Builder()
    conv = b.conv2d(b.input(1, 2, 5, 5), 3)
    graph = after("fold_batch_norm", b.graph(b.binary("add", b.batch_norm(conv), conv)))
    assert counts(graph) == {"conv2d": 1, "binary": 3}
    assert not graph.nodes[0].attributes["bias"]


def test_two_batch_norms_in_a_row_fold():
    b = Builder()
    graph = after("fold_batch_norm", b.graph(b.batch_norm(b.batch_norm(b.conv2d(b.input(1, 2, 5, 5), 3)))))
    assert counts(graph) == {"conv2d": 1}


# Bias


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("function", ["add", "sub"])
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), (1, 1, 1), ()])
def test_a_constant_per_channel_becomes_the_bias_of_a_convolution(bias, function, shape):
    b = Builder()
    conv = b.conv2d(b.input(2, 2, 5, 4), 3, bias=bias)
    graph = after("fuse_bias", b.graph(b.binary(function, conv, b.random(*shape))))
    assert counts(graph) == {"conv2d": 1}
    assert graph.nodes[0].attributes["bias"]


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 3)])
def test_a_constant_per_column_becomes_the_bias_of_a_gemm_on_either_side(shape):
    b = Builder()
    gemm = b.gemm(b.input(2, 4, 5), 3)
    graph = after("fuse_bias", b.graph(b.binary("add", b.random(*shape), gemm)))
    assert counts(graph) == {"gemm": 1}


@pytest.mark.parametrize("shape", [(5, 4), (4,), (2, 3, 5, 4), (2, 1, 1, 1), (1, 2, 3, 5, 4)])
def test_other_constants_do_not_become_a_bias(shape):
    b = Builder()
    graph = b.graph(b.binary("add", b.conv2d(b.input(2, 2, 5, 4), 3), b.random(*shape)))
    assert after("fuse_bias", graph) is graph


def test_a_constant_minus_a_product_is_no_bias():
    b = Builder()
    graph = b.graph(b.binary("sub", b.random(3), b.gemm(b.input(2, 4), 3)))
    assert after("fuse_bias", graph) is graph


def test_a_product_read_twice_gets_no_bias():
    b = Builder()
    gemm = b.gemm(b.input(2, 4), 3)
    graph = b.graph(b.binary("add", gemm, b.random(3)), gemm)
    assert after("fuse_bias", graph) is graph


# Residual


def test_a_sum_of_activations_becomes_a_residual():
    b = Builder()
    x = b.input(1, 3, 5, 5)
    graph = after("fuse_residual", b.graph(b.binary("add", x, b.conv2d(x, 3, bias=True))))
    (node,) = graph.nodes
    assert node.attributes["residual"]
    assert node.inputs[-1] == x


@pytest.mark.parametrize("main_first", [False, True])
def test_the_longer_branch_carries_the_residual_and_runs_last(main_first):
    b = Builder()
    x = b.input(1, 3, 6, 6)
    branches = [lambda: b.conv2d(b.unary("relu", b.conv2d(x, 4, 3, 2)), 4), lambda: b.conv2d(x, 4, 1, 2)]
    ends = {number: branches[number]() for number in ((0, 1) if main_first else (1, 0))}
    graph = after("fuse_residual", b.graph(b.binary("add", ends[0], ends[1])))
    assert counts(graph) == {"conv2d": 3, "unary": 1}
    assert graph.nodes[-1].inputs[-1] == ends[1]
    assert graph.tensors[graph.nodes[-1].inputs[1]].shape == (4, 4, 3, 3)


def test_a_chain_of_residuals_goes_to_different_convolutions():
    b = Builder()
    x = b.input(1, 3, 5, 5)
    first = b.binary("add", b.conv2d(x, 3), x)
    second = b.binary("add", first, b.conv2d(x, 3))
    graph = after("fuse_residual", b.graph(b.binary("add", second, b.input(1, 3, 5, 5))))
    assert counts(graph) == {"conv2d": 2, "binary": 1}


def test_what_is_no_residual_stays():
    b = Builder()
    x, row = b.input(2, 3), b.input(1, 3)
    parts = [b.binary("add", b.gemm(x, 3), row), b.binary("sub", b.gemm(x, 3), x), b.binary("add", *[b.gemm(x, 3)] * 2)]
    parts += [b.binary("add", b.unary("relu", b.gemm(x, 3)), x), b.binary("add", b.gemm(x, 3), b.random(2, 3))]
    graph = b.graph(*parts)
    assert after("fuse_residual", graph) is graph


def test_a_residual_never_depends_on_the_convolution_that_adds_it():
    b = Builder()
    conv = b.conv2d(b.input(1, 3, 5, 5), 3)
    graph = b.graph(b.binary("add", conv, b.unary("tanh", conv)))
    assert after("fuse_residual", graph) is graph


# Activation


@pytest.mark.parametrize("function", ["relu", "relu6"])
def test_an_activation_fuses_behind_the_residual(function):
    b = Builder()
    x = b.input(1, 3, 5, 5)
    graph = b.graph(b.unary(function, b.binary("add", b.conv2d(x, 3, bias=True), x)))
    graph = after("fuse_activation", after("fuse_residual", graph))
    assert counts(graph) == {"conv2d": 1}
    assert graph.nodes[0].attributes["activation"] == function


def test_gelu_fuses_into_a_gemm_only():
    b = Builder()
    x = b.input(1, 2, 4, 4)
    graph = b.graph(b.unary("gelu", b.gemm(x, 3)), b.unary("gelu", b.conv2d(x, 3)), b.unary("tanh", b.gemm(x, 3)))
    graph = after("fuse_activation", graph)
    assert counts(graph) == {"gemm": 2, "conv2d": 1, "unary": 2}


def test_a_second_activation_and_one_of_several_readers_stay():
    b = Builder()
    gemm = b.gemm(b.input(2, 3), 4)
    shared = b.gemm(b.input(2, 3), 4)
    graph = b.graph(b.unary("relu6", b.unary("relu", gemm)), b.unary("relu", shared), shared)
    assert counts(after("fuse_activation", graph)) == {"gemm": 2, "unary": 2}


# All together


def test_resnet18_is_left_with_its_operators():
    graph, reports = optimise(resnet18(64))
    assert counts(graph) == {"conv2d": 20, "gemm": 1, "max_pool2d": 1, "global_avg_pool": 1, "reshape": 1}
    assert_same_results(resnet18(64), graph)
    assert [report.name for report in reports] == list(PASSES)
    assert reports[0].operators_before == 69
    assert reports[-1].operators_after == 24
    assert reports[-1].after == graph.operations()
    assert all(report.description.endswith(".") and report.seconds >= 0 for report in reports)


def test_passes_can_be_chosen_and_skipped():
    graph, reports = optimise(resnet18(32), ["fold_batch_norm", "fuse_activation"], skip=["fuse_activation"])
    assert [report.name for report in reports] == ["fold_batch_norm"]
    assert reports[0].before["batch_norm"] == 20
    assert graph.operations() == Counter(
        unary=17, conv2d=20, binary=8, max_pool2d=1, global_avg_pool=1, reshape=1, gemm=1
    )


@pytest.mark.parametrize("names", [{"names": ["fold_batchnorm"]}, {"skip": ["fold_batchnorm"]}])
def test_an_unknown_pass_is_told(names):
    with pytest.raises(UserError, match="unknown pass 'fold_batchnorm'; did you mean fold_batch_norm"):
        optimise(resnet18(32), **names)


def test_the_given_graph_is_left_as_it_was():
    before = resnet18(32)
    inputs = [torch.ones(1, 3, 32, 32)]
    (expected,) = operations.run(before, inputs)
    nodes, tensors, constants = before.nodes, dict(before.tensors), dict(before.constants)
    optimise(before)
    assert (before.nodes, before.tensors, before.constants) == (nodes, tensors, constants)
    assert torch.equal(operations.run(before, inputs)[0], expected)

"""ONNX files become graphs that compute the same; what has no counterpart runs as a model of one node."""

import json
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.planner_import import agreeing, operators_of
from wpk_envs.errors import UserError
from wpk_envs.planner import framework, framework_onnx
from wpk_envs.planner.importing import import_model, source_of

RANDOM = np.random.default_rng(0)


def drawn(*shape):
    return RANDOM.standard_normal(shape, np.float32)


@pytest.fixture
def file(tmp_path):
    """Writes a model of nodes, inputs (types and shapes by name), names of outputs and constants."""

    def write(nodes, inputs, outputs, constants=None, opset=20, ir_version=9, domains=()):
        values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        results = [helper.make_value_info(name, onnx.TypeProto()) for name in outputs]
        tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
        graph = helper.make_graph(nodes, "small", values, results, tensors)
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        typed = onnx.shape_inference.infer_shapes(model)
        for output in typed.graph.output:
            if not output.type.HasField("tensor_type"):  # of an operator that is not ONNX's own
                output.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, ["rows", "columns"]))
        onnx.save(typed, tmp_path / "small.onnx")
        return str(tmp_path / "small.onnx")

    return write


def floats(*shape):
    return TensorProto.FLOAT, shape


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def exported(path, module, *inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, str(path), dynamo=False)
    return str(path)


def test_networks_that_torch_exports(tmp_path):
    layers = [torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.BatchNorm2d(8), torch.nn.ReLU6(), torch.nn.MaxPool2d(2)]
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(8, 5)]
    layers += [torch.nn.Hardswish(), torch.nn.SiLU(), torch.nn.Softmax(-1)]
    path = exported(tmp_path / "net.onnx", torch.nn.Sequential(*layers), torch.randn(1, 3, 12, 12))
    source = source_of(path)
    assert (source.name, source.kind) == ("net", "onnx")
    graph = agreeing(source)
    assert operators_of(graph) == []
    assert graph.operations()["gemm"] == graph.operations()["conv2d"] == 1


def test_a_bert_layer_that_torch_exports(tmp_path):
    source = source_of("bert_layer")
    path = exported(tmp_path / "bert.onnx", source.module, torch.from_numpy(source.inputs[0]))
    graph = agreeing(source_of(path))
    assert operators_of(graph) == []
    assert graph.operations()["gemm"] == 6
    assert graph.operations()["matmul"] == 2
    inputs = source.random_inputs(1)
    (expected,), (found,) = source.reference(inputs), source_of(path).reference(inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


CONVOLUTIONS = {
    "attributes": ({"pads": (1, 0, 1, 0), "strides": (2, 1), "dilations": (1, 2), "group": 2}, []),
    "valid": ({"auto_pad": "VALID", "group": 2}, []),
    "same": ({"auto_pad": "SAME_UPPER", "group": 2}, []),
    "same, uneven": ({"auto_pad": "SAME_UPPER", "strides": (2, 2), "group": 2}, ["aten.constant_pad_nd.default"]),
    "same, uneven before": (
        {"auto_pad": "SAME_LOWER", "strides": (2, 2), "group": 2},
        ["aten.constant_pad_nd.default"],
    ),
    "uneven": ({"pads": (0, 1, 2, 0), "group": 2}, ["aten.constant_pad_nd.default"]),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(file, name):
    attributes, through_framework = CONVOLUTIONS[name]
    constants = {"w": drawn(6, 2, 3, 3), "b": drawn(6)}
    graph = agreeing(
        source_of(file([node("Conv", "x w b", "y", **attributes)], {"x": floats(1, 4, 8, 8)}, ["y"], constants))
    )
    assert graph.operations()["conv2d"] == 1
    assert operators_of(graph) == through_framework


def test_pooling_and_normalisation(file):
    nodes = [
        node("BatchNormalization", "x s b m v", "n", epsilon=0.01),
        node("MaxPool", "n", "p1", kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), ceil_mode=1),
        node("AveragePool", "n", "p2", kernel_shape=(3, 2), pads=(1, 0, 1, 0)),
        node("AveragePool", "n", "p3", kernel_shape=(3, 2), pads=(1, 0, 1, 0), count_include_pad=1),
        node("GlobalAveragePool", "n", "p4"),
        node("ReduceMean", "n axes", "p5", keepdims=0),
        node("LayerNormalization", "n g", "p6"),
        node("Softmax", "n", "p7", axis=1),
    ]
    constants = {"s": drawn(4), "b": drawn(4), "m": drawn(4), "v": np.abs(drawn(4)) + 0.5, "axes": np.array([-1, 2])}
    constants["g"] = drawn(8)
    path = file(nodes, {"x": floats(1, 4, 9, 8)}, [f"p{number}" for number in range(1, 8)], constants)
    graph = agreeing(source_of(path))
    assert operators_of(graph) == []
    assert graph.operations()["avg_pool2d"] == graph.operations()["global_avg_pool"] == 2


def test_pooling_that_torch_does_not_know(file):
    nodes = [
        node("MaxPool", "x", "a", kernel_shape=(3, 3), strides=(2, 2), auto_pad="SAME_UPPER"),
        node("MaxPool", "x", "b i", kernel_shape=(2, 2)),
        node("AveragePool", "x", "c", kernel_shape=(2, 2), pads=(0, 0, 1, 1)),
        node("GlobalMaxPool", "x", "d"),
    ]
    graph = agreeing(source_of(file(nodes, {"x": floats(1, 2, 8, 8)}, list("abicd"))))
    assert operators_of(graph) == ["AveragePool", "GlobalMaxPool", "MaxPool", "MaxPool"]
    assert graph.tensors[graph.outputs[2]].dtype == "int64"


def test_products(file):
    nodes = [
        node("Gemm", "x w c", "a", transB=1, alpha=0.5, beta=2.0),
        node("Gemm", "x w row", "b", transB=1),
        node("Gemm", "x wt", "d"),
        node("MatMul", "x wt", "e"),
        node("Transpose", "x", "xt"),
        node("MatMul", "x xt", "f"),
        node("Gemm", "x xt", "g", alpha=3.0),
        node("Gemm", "x wt full", "h"),
    ]
    w = drawn(3, 6)
    constants = {"w": w, "wt": w.T.copy(), "c": drawn(3), "row": drawn(1, 3), "full": drawn(5, 3)}
    graph = agreeing(source_of(file(nodes, {"x": floats(5, 6)}, list("abdefgh"), constants)))
    assert graph.operations()["gemm"] == 4
    assert operators_of(graph) == ["Gemm", "Gemm"]


def test_elementwise_operators(file):
    nodes = [
        node("Clip", "x zero six", "a"), node("Clip", "x zero", "b"), node("Clip", "x zero half", "c"),
        node("Max", "x y half", "d"), node("Min", "x y", "e"), node("Sum", "x y x", "f"), node("Pow", "y half", "g"),
        node("HardSigmoid", "x", "h", alpha=1 / 6), node("HardSigmoid", "x", "i"), node("Gelu", "x", "j"),
        node("Gelu", "x", "k", approximate="tanh"), node("Reciprocal", "y", "l"), node("Neg", "x", "m"),
        node("Div", "x y", "n"), node("Erf", "x", "o"), node("Identity", "x", "p"), node("Dropout", "x", "q"),
    ]  # fmt: skip
    constants = {name: np.float32(value) for name, value in (("zero", 0), ("six", 6), ("half", 0.5))}
    nodes.insert(0, node("Exp", "z", "y"))
    path = file(nodes, {"x": floats(3, 4), "z": floats(4)}, list("abcdefghijklmnopq"), constants)
    graph = agreeing(source_of(path))
    assert operators_of(graph) == ["HardSigmoid"]
    assert graph.outputs[-2:] == ("x", "x")


def test_shapes_that_the_model_computes(file):
    """What exporters write for ``x.reshape(x.shape[0], -1, 2)``, and an If that is decided before."""
    nodes = [
        node("Relu", "x", "r"),
        node("Shape", "r", "shape"),
        node("Gather", "shape first", "batch"),
        node("Unsqueeze", "batch axis", "batch1"),
        node("Concat", "batch1 rest", "wanted", axis=0),
        node("Reshape", "r wanted", "y"),
        node("Squeeze", "y axis", "s"),
        node("Unsqueeze", "s axis", "u"),
        node("Flatten", "u", "f"),
        node("Expand", "f one", "e"),
        node("Transpose", "u", "t", perm=(0, 2, 1)),
        node("Concat", "u u", "c", axis=-1),
    ]
    constants = {"first": np.int64(0), "axis": np.array([0]), "rest": np.array([-1, 2]), "one": np.array([1, 1])}
    graph = agreeing(source_of(file(nodes, {"x": floats(1, 3, 4)}, list("yefct"), constants)))
    assert operators_of(graph) == []
    assert graph.tensors[graph.outputs[0]].shape == (1, 6, 2)
    assert graph.constants == {}


def test_slices(file):
    nodes = [
        node("Slice", "x begin end axes ones", "piece"),
        node("Slice", "x begin end", "leading"),
        node("Split", "x", "left right", axis=-1, num_outputs=2),
        node("Split", "x sizes", "one three", axis=1),
        node("Gather", "x second", "row", axis=1),
        node("Gather", "x last", "kept", axis=2),
    ]
    constants = {name: np.array(value, np.int64) for name, value in {
        "begin": [-3, 1], "end": [2**62, -1], "axes": [1, 2], "ones": [1, 1], "sizes": [1, 3], "second": 1,
        "last": [-1],
    }.items()}  # fmt: skip
    outputs = ["piece", "leading", "left", "right", "three", "row", "kept"]
    graph = agreeing(source_of(file(nodes, {"x": floats(5, 4, 7)}, outputs, constants)))
    assert operators_of(graph) == []
    shapes = [graph.tensors[name].shape for name in graph.outputs]
    assert shapes == [(5, 3, 5), (3, 2, 7), (5, 4, 4), (5, 4, 3), (5, 3, 7), (5, 7), (5, 4, 1)]


def test_slices_of_other_forms_stay_onnxs(file):
    nodes = [
        node("Slice", "x begin end axes steps", "everysecond"),
        node("Gather", "x several", "rows"),
        node("Slice", "tokens begin end", "numbers"),
    ]
    numbers = {"begin": [0], "end": [2], "axes": [1], "steps": [2], "several": [0, 1]}
    constants = {name: np.array(value, np.int64) for name, value in numbers.items()}
    inputs = {"x": floats(4, 4), "tokens": (TensorProto.INT64, [3])}
    graph = agreeing(source_of(file(nodes, inputs, ["everysecond", "rows", "numbers"], constants)))
    assert operators_of(graph) == ["Gather", "Slice", "Slice"]


def test_slices_of_an_older_version(file):
    nodes = [
        node("Slice", "x", "piece", starts=[1, 0], ends=[3, -1]),
        node("Split", "x", "one two", axis=1, split=[1, 3]),
    ]
    graph = agreeing(source_of(file(nodes, {"x": floats(3, 4)}, ["piece", "one", "two"], opset=9)))
    assert operators_of(graph) == []


def test_operators_of_an_older_version(file):
    nodes = [
        node("Clip", "x", "a", min=0.0, max=6.0), node("Softmax", "x", "b"), node("Squeeze", "x", "c", axes=[0]),
        node("ReduceMean", "x", "d", axes=[2, 3]), node("Unsqueeze", "x", "e", axes=[0]),
        node("Softmax", "x", "f", axis=3),
    ]  # fmt: skip
    graph = agreeing(source_of(file(nodes, {"x": floats(1, 2, 3, 4)}, list("abcdef"), opset=9, ir_version=4)))
    assert operators_of(graph) == ["Softmax"]  # the one over three axes


def test_unknown_operators_are_models_of_one_node(file):
    nodes = [
        node("CumSum", "x axis", "a"),
        node("TopK", "a k", "b i", axis=1),
        node("Gather", "table tokens", "c"),
        node("Einsum", "x x", "d", equation="ij,kj->ik"),
        node("Cast", "x", "e", to=TensorProto.DOUBLE),
        node("Cast", "e", "g", to=TensorProto.FLOAT),
        helper.make_node("BiasGelu", ["x", "bias"], ["h"], domain="com.microsoft"),
        node("Relu", "h", "l"),
    ]
    inputs = {"x": floats(3, 4), "tokens": (TensorProto.INT64, (2,))}
    constants = {"axis": np.int64(0), "k": np.array([2]), "table": drawn(5, 3), "bias": drawn(4)}
    path = file(nodes, inputs, list("abicdgl"), constants, domains=["com.microsoft"])
    graph = agreeing(source_of(path))
    assert operators_of(graph) == ["BiasGelu", "Cast", "Cast", "CumSum", "Einsum", "Gather", "TopK"]
    assert graph.inputs == ("x", "tokens")
    assert [graph.tensors[name].dtype for name in graph.outputs[1:3]] == ["float32", "int64"]
    json.dumps([dict(each.attributes) for each in graph.nodes], allow_nan=False)


def test_types_that_numpy_lacks_are_refused(file):
    path = file([node("Cast", "x", "y", to=TensorProto.BFLOAT16), node("Exp", "y", "z")], {"x": floats(2)}, ["z"])
    with pytest.raises(UserError, match=r"'y' of 'small' is BFLOAT16, which NumPy lacks"):
        import_model(source_of(path))


def test_branches_read_what_is_around_them(file):
    def branch(kind):
        result = helper.make_tensor_value_info("r", *floats(3))
        return helper.make_graph([node("Neg", "h", "n"), node(kind, "n w", "r")], kind, [], [result])

    nodes = [
        node("Exp", "x", "h"), node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"),
        node("If", "c", "y", then_branch=branch("Add"), else_branch=branch("Mul")),
    ]  # fmt: skip
    graph = agreeing(source_of(file(nodes, {"x": floats(3)}, ["y"], {"zero": np.float32(0), "w": drawn(3)})))
    assert operators_of(graph) == ["Greater", "If", "ReduceSum"]


def test_a_prepared_call_is_the_operator_with_and_without_onnx_runtime(file, monkeypatch):
    path = file([node("CumSum", "x axis", "y")], {"x": floats(3, 4)}, ["y"], {"axis": np.int64(0)})
    source = source_of(path)
    (found,) = import_model(source).nodes
    expected = np.cumsum(source.inputs[0], 0)
    for _ in range(2):
        (result,) = framework.make(dict(found.attributes))(torch.from_numpy(source.inputs[0]))
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)
        framework_onnx._evaluator.cache_clear()
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    np.testing.assert_allclose(source.reference(source.inputs)[0], expected, rtol=1e-6)


def test_without_the_package_onnx_the_extra_is_named(file, monkeypatch):
    path = file([node("Relu", "x", "y")], {"x": floats(2)}, ["y"])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'wpk-envs\[planner\]'"):
        source_of(path)


def test_operators_that_nothing_runs_are_named(file):
    nodes = [helper.make_node("Sorcery", ["x"], ["y"], domain="elsewhere")]
    path = file(nodes, {"x": floats(2)}, ["y"], domains=["elsewhere"])
    with pytest.raises(UserError, match=r"ONNX Runtime .* cannot run 'Sorcery'"):
        import_model(source_of(path))


@pytest.mark.parametrize(
    ("inputs", "constants", "sentence"),
    [
        ({"x": floats("batch", 3)}, {}, r"input 'x' of .* has the dynamic shape \[batch, 3\]; a plan needs numbers"),
        ({"x": floats(None, 3)}, {}, r"has the dynamic shape \[\?, 3\]"),
        ({"x": (TensorProto.FLOAT16, (2, 3))}, {}, r"input 'x' of .* is FLOAT16, but plans compute in float32"),
        ({"x": (TensorProto.DOUBLE, (2, 3))}, {}, r"input 'x' of .* is DOUBLE"),
        ({"x": (TensorProto.STRING, (2, 3))}, {}, r"input 'x' of .* is STRING, which NumPy lacks"),
        (
            {"x": floats(2, 3)},
            {"w": np.ones(3, np.float16)},
            r"weight 'w' of .* is FLOAT16, but plans compute in float32",
        ),
    ],
)
def test_models_that_cannot_be_planned_are_refused(file, inputs, constants, sentence):
    path = file([node("Identity", "x", "y")], inputs, ["y"], constants)
    with pytest.raises(UserError, match=sentence):
        source_of(path)


def test_shapes_that_depend_on_values_are_refused(file):
    path = file([node("NonZero", "x", "y")], {"x": floats(2, 3)}, ["y"])
    with pytest.raises(UserError, match=r"'y' of 'small' has the dynamic shape"):
        import_model(source_of(path))


def test_files_that_are_no_models_are_refused(tmp_path):
    for content in (b"", b"no model at all"):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(UserError, match=r"bad.onnx is no valid ONNX model"):
            source_of(str(tmp_path / "bad.onnx"))
    with pytest.raises(UserError, match=r"there is no file .*missing.onnx"):
        source_of(str(tmp_path / "missing.onnx"))
    with pytest.raises(UserError, match=r"holds its weights already: leave out weights=w.pt"):
        source_of(str(tmp_path / "bad.onnx"), weights="w.pt")

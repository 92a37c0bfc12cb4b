"""Torch modules become graphs that compute the same; what has no counterpart runs through torch."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.planner_import import agreeing, operators_of, torch_source
from wpk_envs.errors import UserError
from wpk_envs.planner import framework
from wpk_envs.planner.importing import import_model, source_of


class Lambda(nn.Module):
    """A function of tensors as a module, with its own modules and tensors as attributes."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.register_buffer(name, part) if isinstance(part, torch.Tensor) else setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def graph_of(function, *inputs, **parts):
    return agreeing(torch_source(Lambda(function, **parts), *inputs))


torch.manual_seed(0)
IMAGE = torch.randn(1, 4, 9, 8)
VECTOR = torch.randn(6)

IMAGES = {
    "convolution": nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
    "same padding": nn.Conv2d(4, 4, 3, padding="same", bias=False),
    "channels last": nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last),
    "computed weight": nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
    "normalisation": nn.BatchNorm2d(4),
    "normalisation without weights": nn.BatchNorm2d(4, affine=False),
    "max pooling": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "average pooling": nn.AvgPool2d((3, 2), padding=1, count_include_pad=False),
    "adaptive to parts": nn.AdaptiveAvgPool2d((3, 4)),
    "adaptive to the same": nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d((9, 8))),
    "adaptive to one": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 3)),
    "activations": nn.Sequential(nn.ReLU6(True), nn.Hardtanh(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish()),
}


@pytest.mark.parametrize("name", IMAGES)
def test_layers_on_images_have_counterparts(name):
    graph = agreeing(torch_source(IMAGES[name], IMAGE))
    assert operators_of(graph) == []
    assert all(value.dtype == np.float32 and value.flags.c_contiguous for value in graph.constants.values())


def test_what_only_torch_computes_stays_torchs():
    layers = [nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 4, 2, padding="same"), nn.GroupNorm(2, 4), nn.PReLU()]
    layers += [nn.AdaptiveAvgPool2d(4), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)]
    graph = agreeing(torch_source(nn.Sequential(*layers), IMAGE))
    assert operators_of(graph) == [
        "aten.adaptive_avg_pool2d.default", "aten.conv2d.padding", "aten.conv_transpose2d.input",
        "aten.group_norm.default", "aten.prelu.default",
    ]  # fmt: skip
    assert framework.framework_nodes(graph)[0] == ("0", "aten.conv_transpose2d.input")
    assert graph.operations()["conv2d"] == graph.operations()["max_pool2d"] == 1
    json.dumps([dict(node.attributes) for node in graph.nodes])


def test_elementwise_operators_with_numbers_and_tensors():
    def function(self, x, y):
        ends = torch.clamp(x, -1, 1), x.clamp(max=0.3), torch.clip(x, 0, 6), x.clamp(0), torch.maximum(x, y)
        return *ends, 2 - x, 1 / (x.exp() + 1), x**2, 2**y, x * y + 0.5, -x / 3, torch.min(x, y).erf(), y.reciprocal()

    assert operators_of(graph_of(function, VECTOR, VECTOR + 3)) == []


def test_shapes():
    def function(self, x):
        flat = x.flatten(1).unsqueeze(0).squeeze()
        turned = x.permute(0, -1, 1, 2).transpose(-1, 1).contiguous()
        split = x.unflatten(1, (2, 2)).expand(1, 2, 2, 9, 8)
        return flat, turned, split, x.mean((2, 3)), x.mean((-1, -2), keepdim=True), torch.cat([x, x.relu()], -1)

    assert operators_of(graph_of(function, IMAGE)) == []


def test_products():
    def function(self, x, y):
        weighted = self.linear(x), x @ self.matrix, torch.addmm(self.matrix[0], x[0], self.matrix)
        return *weighted, x @ y.mT, torch.bmm(x, y.transpose(1, 2)), functional.linear(x, self.matrix.T)

    parts = {"linear": nn.Linear(8, 3), "matrix": torch.randn(8, 4)}
    graph = graph_of(function, torch.randn(2, 5, 8), torch.randn(2, 5, 8), **parts)
    assert graph.operations()["gemm"] == 4
    assert graph.operations()["matmul"] == 2
    assert operators_of(graph) == []


def test_products_of_other_forms_stay_torchs():
    def function(self, x):
        return self.matrix @ x, x[0, 0] @ self.matrix, torch.addmm(x[0], x[0], self.matrix, beta=2), x @ x[0]

    assert (
        operators_of(graph_of(function, torch.randn(2, 8, 8), matrix=torch.randn(8, 8))).count("aten.matmul.default")
        == 3
    )


def test_attention():
    attention = functional.scaled_dot_product_attention

    def function(self, q, k):
        return attention(q, k, k), attention(q, k, k, scale=0.3), attention(q, k, k, is_causal=True)

    graph = graph_of(function, torch.randn(1, 2, 5, 8), torch.randn(1, 2, 4, 8))
    assert graph.operations()["softmax"] == 2
    assert operators_of(graph) == ["aten.scaled_dot_product_attention.default"]


def test_layers_of_torchs_own_transformer_are_taken_apart():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    graph = agreeing(torch_source(layer, torch.randn(1, 5, 8)))
    assert graph.operations()["gemm"] == 4
    assert graph.operations()["layer_norm"] == 2
    assert operators_of(graph) == []


def test_slices():
    def function(self, x):
        first, rest = x.split([1, 4], 1)
        halves, thirds, single = x.chunk(2, -1), x.split(2, 1), x.unbind(2)
        views = x[:, 0], x[0, -1], x[..., 2:], x[:, 1:-1, :3], x.narrow(1, 2, 2), x.select(-1, 5), x[:, :], x[:, 4:2]
        return *views, first, rest * 2, *halves, thirds[2], single[3]

    graph = graph_of(function, torch.randn(2, 5, 6))
    assert operators_of(graph) == []
    assert graph.operations().keys() == {"slice", "reshape", "binary"}
    whole, empty = graph.outputs[6:8]
    assert whole == graph.inputs[0]
    assert graph.tensors[empty].shape == (2, 0, 6)


def test_slices_of_other_forms_stay_torchs():
    def function(self, x, tokens):
        return x[:, ::2], tokens[:, 0], x[:, 1:1].split(2, 1)[0]

    graph = graph_of(function, torch.randn(2, 4), torch.ones(1, 4, dtype=torch.int64))
    assert operators_of(graph) == ["aten.select.int", "aten.slice.Tensor", "aten.split.Tensor"]


def test_unknown_operators_with_several_outputs_and_other_types():
    def function(self, x, tokens):
        values, places = x.topk(2, dim=1)
        mask = self.embedding(tokens).cumsum(0) > 0
        low = torch.full_like(x, float("-inf")).masked_fill(mask, 0.0).exp()
        return values, places, mask, low, torch.einsum("ij,kj->ik", x, x), torch.std_mean(x)[1], x.double().float()

    tokens = torch.tensor([1, 3, 2])
    graph = graph_of(function, torch.randn(3, 4), tokens, embedding=nn.Embedding(5, 4))
    assert graph.tensors[graph.inputs[1]].dtype == "int64"
    assert [graph.tensors[name].dtype for name in graph.outputs[:3]] == ["float32", "int64", "bool"]
    assert {"aten.topk.default", "aten.einsum.default", "aten.cumsum.default"} <= set(operators_of(graph))
    json.dumps([dict(node.attributes) for node in graph.nodes], allow_nan=False)


def test_a_prepared_call_is_the_operator():
    (node,) = graph_of(lambda self, x: x.cumsum(0), torch.randn(3, 2)).nodes
    prepared = framework.make(json.loads(json.dumps(dict(node.attributes))))
    for _ in range(2):
        x = torch.randn(3, 2)
        (found,) = prepared(x)
        assert torch.equal(found, x.cumsum(0))
    with pytest.raises(UserError, match="does not know the operator"):
        framework.make({"framework": "torch", "target": "aten.no_such.default", "arguments": {}})


@torch.library.custom_op("wpk_tests::add", mutates_args=())
def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x + y + 1


@add.register_fake
def _(x, y):
    return torch.empty_like(x)


@torch.library.custom_op("wpk_tests::fill", mutates_args=("x",))
def fill(x: torch.Tensor) -> None:
    x.fill_(1)


def test_operators_of_the_user_stay_the_users():
    graph = graph_of(lambda self, x: add(x, x), VECTOR)
    assert operators_of(graph) == ["wpk_tests.add.default"]


def test_inputs_constants_and_repeats_as_outputs():
    graph = graph_of(
        lambda self, x, y: {"a": x, "b": (x + y, self.kept), "c": [x, None, 3]}, VECTOR, VECTOR, kept=VECTOR
    )
    assert graph.outputs == ("x0", "add", "kept", "x0")


def test_shared_weights_are_kept_once():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    graph = agreeing(torch_source(nn.Sequential(first, second, first), torch.randn(2, 4)))
    assert graph.operations()["gemm"] == 3
    assert sorted(value.shape for value in graph.constants.values()) == [(4,), (4,), (4, 4)]


def test_work_in_place_leaves_the_callers_inputs():
    def function(self, x):
        x.relu_()
        x[0] = 1.0
        with torch.no_grad():
            return x.add_(1)

    source = torch_source(Lambda(function), VECTOR)
    agreeing(source)
    np.testing.assert_array_equal(source.inputs[0], VECTOR.numpy())


def branching(self, x):
    return x * 2 if x.sum() > 0 else x


def counting(self, x):
    self.count.add_(1)
    return x + self.count


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda self, x: x[x > 0], r"a shape or number in 'small' depends on values"),
        (lambda self, x: x + x.sum().item(), r"a shape or number in 'small' depends on values"),
        (branching, r"torch.export cannot export 'small' with static shapes: .*data-dependent"),
        (lambda self, x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)), r"'small' branches or loops on values"),
        (counting, r"calling 'small' changes its buffer 'count'"),
        (lambda self, x: x + self.count.bfloat16().float(), r"'small' computes in bfloat16, which NumPy lacks"),
        (lambda self, x: fill(x) or x, r"'small' uses the operator 'auto_functionalized"),
        (lambda self, x: x.bfloat16() + 1, r"'small' computes in bfloat16, which NumPy lacks"),
        (lambda self, x: torch.as_strided(x.view(2, 3).t(), (2, 2), (1, 2)), r"reads a tensor by strides"),
        (lambda self, x: x.shape[0], r"'small' returns no tensor"),
    ],
)
def test_what_no_plan_can_hold_is_refused_in_a_sentence(function, sentence, capfd):
    with pytest.raises(UserError, match=sentence):
        import_model(torch_source(Lambda(function, count=torch.zeros(1)), VECTOR))
    assert capfd.readouterr() == ("", "")


MODELS = """
import torch
from torch import nn

def good():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (torch.randn(2, 4),)

def half():
    return nn.Linear(4, 3).half(), (torch.randn(2, 4),)

def double_input():
    return nn.Linear(4, 3), (torch.randn(2, 4).double(),)

def alone():
    return nn.Linear(4, 3)

def empty():
    return nn.Linear(4, 3), ()

class Scaled(nn.Module):
    def forward(self, scale, row):
        return scale * row, scale.exp()


def scaled():
    return Scaled(), (torch.tensor(2.0), torch.ones(3))


def failing():
    raise ValueError("no weights here")
"""


@pytest.fixture
def users(tmp_path, monkeypatch):
    (tmp_path / "users_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "users_models"
    sys.modules.pop("users_models", None)


def test_functions_of_the_user_are_models(users, tmp_path):
    source, again = (source_of(f"{users}:good", seed=3) for _ in range(2))
    assert (source.name, source.kind, source.input_names) == ("good", "torch", ("input",))
    agreeing(source)
    np.testing.assert_array_equal(source.reference(source.inputs)[0], again.reference(again.inputs)[0])
    torch.save({"0.weight": torch.zeros(3, 4), "0.bias": torch.ones(3)}, tmp_path / "weights.pt")
    loaded = source_of(f"{users}:good", weights=str(tmp_path / "weights.pt"))
    np.testing.assert_array_equal(loaded.reference(loaded.inputs)[0], np.ones((2, 3), np.float32))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("half", r"'weight' of 'users_models:half' is float16, but plans compute in float32 only"),
        ("double_input", r"'input 1' of 'users_models:double_input' is float64"),
        ("alone", r"returned Linear, but it has to return \(module, \(tensor, ...\)\)"),
        ("empty", r"returned \(Linear, tuple\), but it has to return"),
        ("failing", r"'users_models:failing' failed: ValueError: no weights here"),
        ("missing", r"module 'users_models' has no function 'missing'"),
    ],
)
def test_functions_that_give_no_model_are_refused(users, name, sentence):
    with pytest.raises(UserError, match=sentence):
        source_of(f"{users}:{name}")


def test_a_number_among_the_inputs_stays_one(users):
    source = source_of(f"{users}:scaled")
    assert [value.shape for value in source.inputs] == [(), (3,)]
    agreeing(source)


def test_modules_that_cannot_be_imported_are_named():
    with pytest.raises(UserError, match=r"'no_such_package' of model 'no_such_package:f' cannot be imported"):
        source_of("no_such_package:f")

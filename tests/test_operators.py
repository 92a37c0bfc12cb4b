"""Operators: shapes, results, names, suites, and what is refused."""

import dataclasses
import itertools
import json
import math
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from wpk_envs import operators
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d, Gemm

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
epilogues = st.fixed_dictionaries(
    {
        "bias": st.booleans(),
        "residual": st.booleans(),
        "activation": st.sampled_from(["none", "relu", "relu6"]),
    }
)


@st.composite
def convs(draw) -> Conv2d:
    groups = draw(st.integers(1, 3))
    kernel, dilation = draw(pairs), draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding)]
    return Conv2d(
        batch=draw(st.integers(1, 2)),
        channels=groups * draw(st.integers(1, 3)),
        height=least[0] + draw(st.integers(0, 3)),
        width=least[1] + draw(st.integers(0, 3)),
        filters=groups * draw(st.integers(1, 3)),
        kernel=kernel,
        stride=draw(pairs),
        padding=padding,
        dilation=dilation,
        groups=groups,
        **draw(epilogues),
    )


@st.composite
def gemms(draw) -> Gemm:
    sizes = [draw(st.integers(1, 6)) for _ in range(3)]
    return Gemm(*sizes, batch=draw(st.integers(1, 3)), **draw(epilogues))


def naive_conv(op: Conv2d, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """One multiply-add at a time, straight from the definition."""
    out = np.zeros(op.output_shape)
    per_group_in, per_group_out = op.channels // op.groups, op.filters // op.groups
    for n, o, i, j in np.ndindex(*out.shape):
        for c, ki, kj in np.ndindex(*weight.shape[1:]):
            row = i * op.stride[0] + ki * op.dilation[0] - op.padding[0]
            column = j * op.stride[1] + kj * op.dilation[1] - op.padding[1]
            if 0 <= row < op.height and 0 <= column < op.width:
                channel = o // per_group_out * per_group_in + c
                out[n, o, i, j] += float(x[n, channel, row, column]) * float(weight[o, c, ki, kj])
    return out


def naive_gemm(op: Gemm, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.zeros(op.output_shape)
    for batch, i, j, k in itertools.product(range(op.batch), range(op.m), range(op.n), range(op.k)):
        out[batch, i, j] += float(a[batch, i, k]) * float(b[batch, k, j])
    return out


def naive_epilogue(op, out: np.ndarray, inputs) -> np.ndarray:
    channel_axis = 1 if op.kind == "conv2d" else 2
    for index in np.ndindex(*out.shape):
        if op.bias:
            out[index] += inputs["bias"][index[channel_axis]]
        if op.residual:
            out[index] += inputs["residual"][index]
        if op.activation != "none":
            out[index] = min(max(out[index], 0.0), 6.0 if op.activation == "relu6" else math.inf)
    return out


class TestReference:
    @settings(max_examples=60, deadline=None)
    @given(op=convs())
    def test_convolution_follows_its_definition(self, op):
        inputs = op.random_inputs(np.random.default_rng(0))
        expected = naive_epilogue(op, naive_conv(op, inputs["x"], inputs["weight"]), inputs)
        result = op.reference(inputs)
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, expected, atol=1e-12)

    @settings(max_examples=40, deadline=None)
    @given(op=gemms())
    def test_matrix_product_follows_its_definition(self, op):
        inputs = op.random_inputs(np.random.default_rng(0))
        expected = naive_epilogue(op, naive_gemm(op, inputs["a"], inputs["b"]), inputs)
        np.testing.assert_allclose(op.reference(inputs), expected, atol=1e-12)

    def test_relu6_cuts_at_both_ends(self):
        op = Gemm(1, 3, 1, bias=True, activation="relu6")
        one = np.ones((1, 1, 1))
        inputs = {"a": one, "b": np.zeros((1, 1, 3)), "bias": np.array([-1.0, 3.0, 9.0])}
        assert op.reference(inputs).tolist() == [[[0.0, 3.0, 6.0]]]

    @pytest.mark.parametrize("name", ["conv3x3", "depthwise3x3", "gemv"])
    def test_outputs_have_about_unit_variance(self, name):
        op = operators.get(name)
        result = op.reference(op.random_inputs(np.random.default_rng(3)))
        assert 0.8 < result.std() < 1.2

    def test_inputs_come_from_the_generator(self):
        op = Gemm(2, 3, 4, bias=True, residual=True)
        first, again, other = (op.random_inputs(np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert list(first) == ["a", "b", "bias", "residual"]
        assert {array.dtype for array in first.values()} == {np.dtype(np.float32)}
        assert all(np.array_equal(first[name], again[name]) for name in first)
        assert not np.array_equal(first["a"], other["a"])


class TestProperties:
    @settings(max_examples=60, deadline=None)
    @given(op=st.one_of(convs(), gemms()))
    def test_survives_plain_data_pickle_and_hash(self, op):
        through_json = json.loads(json.dumps(op.to_dict()))
        for copy in (operators.from_dict(through_json), pickle.loads(pickle.dumps(op)), dataclasses.replace(op)):
            assert copy == op
            assert hash(copy) == hash(op)
            assert copy.key == op.key

    @settings(max_examples=60, deadline=None)
    @given(op=st.one_of(convs(), gemms()))
    def test_counts_agree_with_the_arrays(self, op):
        inputs = op.random_inputs(np.random.default_rng(0))
        output = op.reference(inputs)
        assert {name: array.shape for name, array in inputs.items()} == op.input_shapes
        assert output.shape == op.output_shape
        assert op.bytes == 4 * (sum(array.size for array in inputs.values()) + output.size)
        per_element = 2 * op.reduction + op.bias + op.residual + (op.activation != "none")
        assert op.flops == output.size * per_element

    @settings(max_examples=60, deadline=None)
    @given(first=convs(), second=gemms())
    def test_features_have_the_same_names_and_are_scaled(self, first, second):
        assert list(first.features()) == list(second.features())
        for value in (*first.features().values(), *second.features().values()):
            assert 0.0 <= value <= 1.0

    def test_features_of_every_known_operator_are_scaled_and_distinct(self):
        known = [operators.get(name) for name in operators.names()]
        known += [member.operator for suite in operators.suites().values() for member in suite.members]
        rows = {op: tuple(op.features().values()) for op in known}
        assert all(0.0 <= value <= 1.0 for row in rows.values() for value in row)
        assert len(set(rows.values())) == len(rows)

    def test_numbers_and_pairs_are_the_same(self):
        assert Conv2d(kernel=5, padding=2) == Conv2d(kernel=[5, 5], padding=(2, 2))
        assert Conv2d(kernel=np.int64(5), padding=2).kernel == (5, 5)
        assert Conv2d().stride == (1, 1)

    def test_immutable(self):
        for name, value in (("kernel", (5, 5)), ("batch", 2)):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(Conv2d(), name, value)

    @pytest.mark.parametrize(
        ("op", "label"),
        [
            (Conv2d(), "conv2d 64x56x56 -> 64, 3x3"),
            (Conv2d(stride=2, bias=True, activation="relu"), "conv2d 64x56x56 -> 64, 3x3 /2 +bias +relu"),
            (
                Conv2d(kernel=(1, 7), stride=(1, 2), groups=2, batch=4),
                "conv2d 64x56x56 -> 64, 1x7 /1x2 groups 2 batch 4",
            ),
            (Conv2d(groups=64, dilation=2, residual=True), "conv2d 64x56x56 -> 64, 3x3 dilation 2 depthwise +residual"),
            (Gemm(128, 64, 32, batch=12), "gemm 128x64x32 batch 12"),
        ],
    )
    def test_label(self, op, label):
        assert op.label == label

    def test_import_needs_neither_torch_nor_tvm(self):
        code = "import sys, wpk_envs.operators; print([m for m in ('torch', 'tvm') if m in sys.modules])"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert result.stdout.strip() == "[]"


class TestNames:
    def test_every_name_gives_its_operator(self):
        assert operators.names() == [
            "conv3x3",
            "conv3x3_s2",
            "conv1x1",
            "conv7x7_s2",
            "depthwise3x3",
            "gemm",
            "gemv",
            "bert_ffn",
        ]
        conv = operators.get("conv3x3")
        assert conv == Conv2d(1, 64, 56, 56, 64, 3, 1, 1)
        assert operators.get("conv7x7_s2").output_shape == (1, 64, 112, 112)
        assert operators.get("gemv").output_shape == (1, 1, 1000)

    def test_suite_member_by_number(self):
        suite = operators.suites()["resnet18"]
        assert [operators.get(f"resnet18/{member.number}") for member in suite.members] == [
            member.operator for member in suite.members
        ]

    def test_unknown_name_lists_close_ones_and_suite_members(self):
        with pytest.raises(UserError, match=r"'conv3x4'; did you mean conv3x3 .*bert_ffn.*resnet18/1\.\.resnet18/16"):
            operators.get("conv3x4")

    @pytest.mark.parametrize(
        "name", ["resnet18/0", "resnet18/17", "resnet18/x", "resnet18", "resnet18/all", "resnet18/-1"]
    )
    def test_no_such_member(self, name):
        with pytest.raises(UserError, match=f"'{name}' is no single operator.*resnet18/1 to resnet18/16"):
            operators.get(name)


class TestOverride:
    def test_kernel_keeps_same_padding(self):
        op = operators.override("conv3x3", kernel=[1, 7])
        assert (op.kernel, op.padding) == ((1, 7), (0, 3))
        assert op.output_shape == operators.get("conv3x3").output_shape

    @settings(max_examples=30, deadline=None)
    @given(kernel=st.sampled_from([1, 3, 5, 7]), dilation=st.integers(1, 3))
    def test_odd_kernels_keep_the_output_shape(self, kernel, dilation):
        op = operators.override("conv3x3", kernel=kernel, dilation=dilation)
        assert op.output_shape == operators.get("conv3x3").output_shape

    def test_given_padding_and_other_fields_win(self):
        assert operators.override("conv3x3", kernel=5, padding=0).padding == (0, 0)
        assert operators.override("conv1x1", height=28).padding == (0, 0)
        assert operators.override(Conv2d(padding=0), stride=2).padding == (0, 0)

    def test_depthwise_stays_depthwise(self):
        op = operators.override("depthwise3x3", channels=32)
        assert (op.groups, op.filters, op.is_depthwise) == (32, 32, True)
        assert operators.override(Conv2d(channels=4, filters=8, groups=4), channels=6).filters == 12
        assert not operators.override("depthwise3x3", channels=32, filters=32, groups=1).is_depthwise

    def test_gemm_and_nothing(self):
        assert operators.override("gemm", m=8, activation="relu") == Gemm(8, 512, 512, activation="relu")
        assert operators.override("conv3x3") == Conv2d()

    def test_hydra_lists_are_pairs(self):
        assert operators.override("conv3x3", kernel=OmegaConf.create([1, 7])).kernel == (1, 7)

    def test_unknown_field_names_the_allowed_ones(self):
        with pytest.raises(UserError, match=r"'kernal'; did you mean kernel\?.*allowed: activation, batch"):
            operators.override("conv3x3", kernal=5)
        with pytest.raises(UserError, match=r"unknown field of a gemm operator 'kernel'"):
            operators.override("gemm", kernel=5)


REFUSED = [
    ({"kernel": 9, "height": 4, "width": 4}, "kernel is 9 high .* padded input only 6"),
    ({"dilation": 40}, "kernel is 81 high"),
    ({"width": 2, "kernel": [1, 7], "padding": [0, 1]}, "kernel is 7 wide .* only 4"),
    ({"batch": 0}, "batch must be at least 1, not 0"),
    ({"height": -3}, "height must be at least 1"),
    ({"stride": 0}, "stride must be at least 1"),
    ({"padding": [1, -1]}, "padding must be at least 0"),
    ({"kernel": [3, 3, 3]}, r"kernel must be one whole number or a pair \[h, w\]"),
    ({"kernel": "3"}, "kernel must be a whole number"),
    ({"kernel": 3.0}, "kernel must be a whole number"),
    ({"channels": "many"}, "channels must be a whole number of at least 1, not 'many'"),
    ({"channels": True}, "channels must be a whole number"),
    ({"channels": None}, "channels must be a whole number"),
    ({"groups": 3}, "groups must divide channels: 64"),
    ({"channels": 9, "groups": 3}, "groups must divide filters: 64"),
    ({"activation": "gelu"}, r"unknown activation 'gelu'.*none, relu, relu6"),
    ({"activation": ["relu"]}, "unknown activation"),
    ({"bias": 1}, "bias must be true or false"),
    ({"residual": "yes"}, "residual must be true or false"),
    ({"dtype": "float16"}, "dtype must be float32.*not 'float16'"),
    ({"channels": 10**9}, "more than 2147483647 elements"),
]


class TestBadInput:
    @pytest.mark.parametrize(("fields", "message"), REFUSED)
    def test_refused_in_one_sentence(self, fields, message):
        with pytest.raises(UserError, match=message) as direct:
            Conv2d(**fields)
        assert "\n" not in str(direct.value)

    @pytest.mark.parametrize(("fields", "message"), REFUSED[3:])
    def test_override_refuses_the_same(self, fields, message):
        with pytest.raises(UserError, match=message):
            operators.override("conv3x3", **fields)

    @pytest.mark.parametrize("name", ["m", "n", "k", "batch"])
    def test_gemm_sizes(self, name):
        with pytest.raises(UserError, match=f"{name} must be at least 1, not 0"):
            operators.override("gemm", **{name: 0})

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({}, "unknown operator kind 'None'"),
            ({"kind": ["conv2d"]}, "unknown operator kind"),
            ({"kind": "conv3d"}, "unknown operator kind 'conv3d'; did you mean conv2d"),
            ({"kind": "conv2d", "size": 3}, "unknown field of a conv2d operator 'size'"),
            ({"kind": "gemm", "m": 3}, "a gemm operator needs a value for n, k"),
        ],
    )
    def test_plain_data_is_checked(self, data, message):
        with pytest.raises(UserError, match=re.escape(message)):
            operators.from_dict(data)


MACS = {"resnet18": 1.814e9, "resnet50": 4.089e9, "mobilenet_v2": 0.3008e9, "vgg16": 15.470e9, "bert_base": 11.174e9}
"""Multiply-adds of one inference: torchvision's published figures, and by hand 12 * (4 * 128 * 768^2 +
2 * 128 * 768 * 3072 + 2 * 12 * 128^2 * 64) + 768^2 for BERT-base."""

LAYERS = {"resnet18": 21, "resnet50": 54, "mobilenet_v2": 53, "vgg16": 16, "bert_base": 12 * 8 + 1}
"""Convolutions and linear layers of each network."""


class TestSuites:
    @pytest.mark.parametrize("name", list(MACS))
    def test_work_is_that_of_the_network(self, name):
        members = operators.suites()[name].members
        assert sum(member.count for member in members) == LAYERS[name]
        macs = sum(
            member.count * math.prod(member.operator.output_shape) * member.operator.reduction for member in members
        )
        assert macs == pytest.approx(MACS[name], rel=1e-3)

    @pytest.mark.parametrize("name", list(MACS))
    def test_members_are_distinct_and_numbered_from_one(self, name):
        suite = operators.suites()[name]
        assert suite.name == name
        assert [member.number for member in suite.members] == list(range(1, len(suite.members) + 1))
        assert len({member.operator for member in suite.members}) == len(suite.members)

    def test_resnet18_by_hand(self):
        members = operators.suites()["resnet18"].members
        assert len(members) == 16
        assert members[0].operator == Conv2d(1, 3, 224, 224, 64, 7, 2, 3, bias=True, activation="relu")
        plain = Conv2d(bias=True, activation="relu")
        assert [(member.operator, member.count) for member in members[1:3]] == [
            (plain, 2),
            (dataclasses.replace(plain, residual=True), 2),
        ]
        shortcut = Conv2d(1, 64, 56, 56, 128, 1, 2, 0, bias=True)
        assert shortcut in [member.operator for member in members]
        assert members[-1].operator == Gemm(1, 1000, 512, bias=True)

    def test_resnet50_strides_in_the_3x3(self):
        members = [
            member.operator for member in operators.suites()["resnet50"].members if member.operator.kind == "conv2d"
        ]
        strided = {op.kernel for op in members if op.stride == (2, 2) and op.activation == "relu"}
        assert strided == {(7, 7), (3, 3)}

    def test_mobilenet_projections_are_linear(self):
        members = [member.operator for member in operators.suites()["mobilenet_v2"].members]
        projections = [op for op in members if op.kind == "conv2d" and op.filters < op.channels and not op.is_depthwise]
        assert {op.activation for op in projections} == {"none"}
        assert sum(op.is_depthwise for op in members) == 10
        assert any(op.residual for op in projections)

    def test_bert_attention_is_batched(self):
        members = {member.operator: member.count for member in operators.suites()["bert_base"].members}
        assert members[Gemm(128, 128, 64, batch=12)] == 12
        assert members[Gemm(128, 64, 128, batch=12)] == 12
        assert members[Gemm(128, 768, 768, bias=True)] == 36

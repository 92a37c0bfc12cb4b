"""The planner's built-in networks: their operators are those of the suites, and what they compute means something."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.planner_import import agreeing
from wpk_envs.errors import UserError
from wpk_envs.operators.conv2d import Conv2d
from wpk_envs.operators.suites import NETWORKS, suite
from wpk_envs.planner.importing import source_of
from wpk_envs.planner.models import MODELS


def executed(network, image):
    """Shapes of the convolutions and linear layers that a network runs, and its outputs."""
    found = []

    def convolution(module, inputs, output):
        (x,) = inputs
        sizes = (module.kernel_size, module.stride, module.padding, module.groups, module.out_channels)
        found.append((tuple(x.shape), *sizes))

    def linear(module, inputs, output):
        found.append((math.prod(inputs[0].shape[:-1]), module.out_features, module.in_features))

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(convolution)
        elif isinstance(module, torch.nn.Linear):
            module.register_forward_hook(linear)
    with torch.inference_mode():
        return found, network(torch.from_numpy(image))


def described(operator):
    if isinstance(operator, Conv2d):
        shape = (operator.batch, operator.channels, operator.height, operator.width)
        sizes = (operator.kernel, operator.stride, operator.padding)
        pairs = [(size, size) if isinstance(size, int) else tuple(size) for size in sizes]
        return (shape, *pairs, operator.groups, operator.filters)
    return operator.m, operator.n, operator.k


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks_run_the_operators_of_their_suites(name):
    model = MODELS[name]
    found, outputs = executed(model.make(0), *model.inputs(0))
    attention = {(128, 128, 64), (128, 64, 128)}  # products of two activations are no layers
    expected = Counter()
    for member in suite(name).members:
        if described(member.operator) not in attention:
            expected[described(member.operator)] += member.count
    assert Counter(found) == expected
    for output in outputs if isinstance(outputs, tuple) else [outputs]:
        assert 0.1 < output.std() < 20


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "bert_layer"])
def test_graphs_compute_what_torch_does_and_nothing_through_it(name):
    graph = agreeing(source_of(name))
    assert "framework" not in graph.operations()
    assert graph.inputs == (MODELS[name].input_name,)
    json.dumps([dict(node.attributes) for node in graph.nodes])
    assert all(value.flags.c_contiguous for value in graph.constants.values())


def test_a_seed_is_a_network():
    first, again, other = (source_of("mobilenet_v2", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.inputs[0], again.inputs[0])
    values = [each.module.state_dict() for each in (first, again, other)]
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])
    assert not torch.equal(values[0]["classifier.1.weight"], values[2]["classifier.1.weight"])
    image = first.inputs[0]
    np.testing.assert_array_equal(first.reference([image])[0], again.reference([image])[0])
    assert np.abs(first.reference([image])[0] - first.reference([2 * image])[0]).max() > 0.1


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_the_user_are_taken(tmp_path, suffix):
    given = MODELS["mobilenet_v2"].make(7).state_dict()
    given = {name: value for name, value in given.items() if not name.endswith("num_batches_tracked")}
    path = str(tmp_path / f"weights{suffix}")
    save_file(given, path) if suffix == ".safetensors" else torch.save(given, path)
    taken = source_of("mobilenet_v2", weights=path).module.state_dict()
    assert all(torch.equal(taken[name], value) for name, value in given.items())


def renamed(state):
    state["head.weight"] = state.pop("classifier.1.weight")


def cut(state):
    state["classifier.1.bias"] = state["classifier.1.bias"][:10].clone()


def halved(state):
    state["classifier.1.bias"] = state["classifier.1.bias"].half()


def emptied(state):
    state.clear()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (renamed, r"lacks classifier.1.weight and has head.weight too many"),
        (cut, r"'classifier.1.bias' in .* has shape \(10,\), but 'mobilenet_v2' has \(1000,\)"),
        (halved, r"'classifier.1.bias' in .* is float16, but plans compute in float32 only"),
        (emptied, r"lacks features.0.0.weight, features.0.1.weight, features.0.1.bias and \d+ more"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, sentence):
    state = MODELS["mobilenet_v2"].make(0).state_dict()
    change(state)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=sentence):
        source_of("mobilenet_v2", weights=str(tmp_path / "weights.pt"))


def test_files_that_are_no_weights_are_refused(tmp_path):
    for name in ("weights.pt", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(UserError, match="is no file of weights that can be read"):
            source_of("resnet18", weights=str(tmp_path / name))
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds no state dict"):
        source_of("resnet18", weights=str(tmp_path / "list.pt"))
    with pytest.raises(UserError, match="there is no file of weights"):
        source_of("resnet18", weights=str(tmp_path / "missing.pt"))


def test_unknown_models_are_named_with_their_likeness():
    with pytest.raises(UserError, match=r"unknown model 'resnet81'; did you mean resnet18"):
        source_of("resnet81")

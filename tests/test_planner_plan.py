"""Plans from planning to running: written, loaded, refused."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.planner_graphs import Builder, random_inputs, small_net
from tests.planner_import import torch_source
from wpk_envs import planner
from wpk_envs.devices.host import cpu_info
from wpk_envs.errors import UserError
from wpk_envs.planner import operations, passes, providers, torch_provider, validator
from wpk_envs.planner import plan as plan_file
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.implementation import Implementation, Target
from wpk_envs.planner.importing import import_model
from wpk_envs.planner.kernels.provider import KernelProvider
from wpk_envs.planner.planning import Planned, Planner
from wpk_envs.planner.providers import open_providers
from wpk_envs.planner.tvm_default.provider import TvmDefault
from wpk_envs.planner.writing import write


def planned_of(graph: Graph, folder: Path, skip: tuple[str, ...] = (), without: tuple[str, ...] = (), **how) -> Planned:
    device = cpu_info()
    everyone, _ = open_providers(device, None)
    offering = {name: provider for name, provider in everyone.items() if name not in without}
    optimised, _ = passes.optimise(graph)
    inputs = random_inputs(graph)
    reference = [value.numpy() for value in operations.run(graph, inputs)]
    kernels = offering["kernels"]
    made = Planner(optimised, device, offering, kernels.functions, skip=skip)
    planned = made.plan([value.numpy() for value in inputs], reference, **how)
    write(folder, planned, device, kernels.functions)
    return planned


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("planned") / "plan"
    planned_of(small_net(), folder)
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "plan"))


def test_a_plan_computes_what_the_graph_does(made: Path) -> None:
    graph, plan = small_net(), planner.load(made)
    for seed in range(3):
        inputs = random_inputs(graph, seed)
        (wanted,) = operations.run(graph, inputs)
        got = plan(inputs[0])
        assert got.shape == (1, 10)
        assert np.abs(got - wanted.numpy()).max() < 1e-4 * np.abs(wanted.numpy()).max()


@pytest.mark.parametrize("without", [("onednn",), ("onednn", "torch")])
def test_a_plan_without_some_providers(without: tuple[str, ...], tmp_path: Path) -> None:
    graph = small_net()
    planned_of(graph, tmp_path / "plan", without=without)
    plan = planner.load(tmp_path / "plan")
    used = {step["provider"] for step in plan.header["program"]["steps"]}
    assert used.isdisjoint(without)
    assert "torch" not in without or used == {"kernels", "tvm"}
    inputs = random_inputs(graph, 1)
    (wanted,) = operations.run(graph, inputs)
    assert np.abs(plan(inputs[0]) - wanted.numpy()).max() < 1e-4 * np.abs(wanted.numpy()).max()


def test_results_are_new_arrays(made: Path) -> None:
    plan = planner.load(made)
    first, second = (random_inputs(small_net(), seed)[0].numpy() for seed in (1, 2))
    one = plan(first)
    kept = one.copy()
    plan(second)
    assert np.array_equal(one, kept)
    assert np.array_equal(plan(first), kept)


def test_one_plan_per_thread(made: Path) -> None:
    plan = planner.load(made)
    inputs = [random_inputs(small_net(), seed)[0].numpy() for seed in range(4)]
    wanted = [plan(each) for each in inputs]
    found: dict[int, bool] = {}

    def work(number: int) -> None:
        own = plan.copy()
        found[number] = all(np.array_equal(own(inputs[number]), wanted[number]) for _ in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)


def test_a_plan_can_be_read(made: Path) -> None:
    header = json.loads((made / "plan.json").read_text())
    assert header["model"] == "model"
    assert header["made_for"]["cpu"] == cpu_info().name
    steps = header["program"]["steps"]
    assert all(step["label"] and step["provider"] in providers.BINDERS for step in steps)
    assert all(header["program"]["buffers"][name]["layout"] for step in steps for name in step["outputs"])
    fastest = [why["candidates"][0] for why in header["why"]]
    assert all(each["in_plan_us"] > 0 for each in fastest)


def test_every_step_is_as_told_by_its_reason(made: Path) -> None:
    header = json.loads((made / "plan.json").read_text())
    labels = {step["name"]: step["label"] for step in header["program"]["steps"]}
    for why in header["why"]:
        for name in why["steps"]:
            assert labels.get(name, why["candidates"][0]["label"]) == why["candidates"][0]["label"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "takes 1 inputs .*, not 0"),
        ((np.zeros((1, 3, 8, 8), np.float32),), r"must be float32 of shape \[1, 3, 16, 16\], not float32 of shape"),
        ((np.zeros((1, 3, 16, 16)),), "must be float32 .* not float64"),
    ],
)
def test_wrong_inputs_are_refused(made: Path, given, message: str) -> None:
    with pytest.raises(UserError, match=message):
        planner.load(made)(*given)


def test_damage_is_found(copied: Path) -> None:
    for name in (plan_file.WEIGHTS, plan_file.PLAN):
        path = copied / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="is damaged"):
            planner.load(copied)
        path.write_bytes(whole)
    (copied / plan_file.WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors is missing"):
        planner.load(copied)


def test_a_digit_that_changed_is_found(copied: Path) -> None:
    path = copied / plan_file.PLAN
    header = json.loads(path.read_text())
    header["program"]["buffers"][header["program"]["outputs"][0]["buffer"]]["offset"] += 64
    path.write_text(json.dumps(header))
    with pytest.raises(UserError, match=r"plan\.json is not what was written"):
        planner.load(copied)


def test_what_is_no_plan_is_not_replaced(copied: Path, tmp_path: Path) -> None:
    header = json.loads((copied / plan_file.PLAN).read_text())
    (tmp_path / "thesis").mkdir()
    plan_file.save(tmp_path / "thesis", header, {}, {})
    (tmp_path / "thesis" / plan_file.PLAN).rename(tmp_path / "thesis" / "notes.json")
    for folder in (tmp_path / "thesis", tmp_path / "thesis" / "notes.json"):
        with pytest.raises(UserError, match="is there and is no plan, so it is not replaced"):
            plan_file.save(folder, header, {}, {})
    assert (tmp_path / "thesis" / "notes.json").is_file()


def test_tensors_that_torch_trains_are_inputs_too(made: Path) -> None:
    plan, (given,) = planner.load(made), random_inputs(small_net(), 1)
    assert np.array_equal(plan(given.clone().requires_grad_()), plan(given.numpy()))


def test_a_folder_without_a_plan(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no plan"):
        planner.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cpu": "Another CPU"}, "the CPU was 'Another CPU' and is"),
        ({"versions": {"torch": "1.0"}}, "the software was torch 1.0 and is"),
        ({"threads": 4096}, "it wants 4096 threads"),
        ({"instruction_sets": []}, "its instruction set was"),
    ],
)
def test_a_plan_from_elsewhere_is_refused(copied: Path, change: dict, message: str) -> None:
    path = copied / plan_file.PLAN
    header = json.loads(path.read_text())
    header["made_for"] |= change
    path.write_text(json.dumps(plan_file.sealed(header)))
    with pytest.raises(UserError, match=message):
        planner.load(copied)


def test_plans_depend_on_onnx_runtime_where_it_computes() -> None:
    settings = {"attributes": {"framework": "onnx", "target": "CumSum", "model": ""}}
    steps = [{"provider": "torch", "settings": settings}, {"provider": "onednn", "settings": {}}]
    assert validator.computing(steps) == {"torch", "onednn", "onnx"}
    assert {"onnxruntime", "torch"} <= validator.validator(validator.computing(steps), 1)["versions"].keys()


def test_another_format_is_refused(copied: Path) -> None:
    path = copied / plan_file.PLAN
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(UserError, match="has format 99, and this version reads 1"):
        planner.load(copied)


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        (100_000, UserError, "the weights of the plan .* cannot be written .*File too large.* free some space"),
        (10, OSError, "File too large"),
    ],
)
def test_a_full_disk_leaves_the_plan_that_was_there(
    copied: Path, numbers: int, error: type[Exception], message: str
) -> None:
    header = json.loads((copied / plan_file.PLAN).read_text())
    with files_no_larger_than(5_000), pytest.raises(error, match=message):
        plan_file.save(copied, header, {"a": np.zeros(numbers, np.float32)}, {})
    assert [each.name for each in copied.parent.iterdir()] == ["plan"]
    assert planner.load(copied).name == "model"


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_linker_kernels_are_compiled_when_they_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    graph, device = small_net(), cpu_info()
    kernels = KernelProvider(device, None)
    optimised, _ = passes.optimise(graph)
    inputs = random_inputs(graph)
    (reference,) = [value.numpy() for value in operations.run(graph, inputs)]
    made = Planner(optimised, device, {"kernels": kernels, "tvm": TvmDefault(kernels.functions)}, kernels.functions)
    planned = made.plan([value.numpy() for value in inputs], [reference])
    remark = write(tmp_path / "plan", planned, device, kernels.functions)
    assert re.match("the plan compiles its kernels whenever it is loaded, .* C\\+\\+ compiler", remark)
    names = {step["settings"]["function"] for step in planned.draft.described["steps"]}
    assert {each.name for each in (tmp_path / "plan").glob("*.ll")} == {f"{name}.ll" for name in names} != set()
    assert np.array_equal(planner.load(tmp_path / "plan")(inputs[0]), planned.draft.program.compute(inputs)[0])
    (tmp_path / "plan" / f"{sorted(names)[0]}.ll").write_text("")
    with pytest.raises(UserError, match="is not what was written"):
        planner.load(tmp_path / "plan")


def test_several_inputs_and_outputs_and_the_framework(tmp_path: Path) -> None:
    b = Builder()
    x, y = b.input(1, 8, 4, 4), b.input(1, 8, 4, 4)
    both = b.binary("mul", x, y)
    graph = b.graph(both, x, b.unary("erf", both), b.random(3))
    planned_of(graph, tmp_path / "plan")
    inputs = random_inputs(graph)
    found = planner.load(tmp_path / "plan")(*inputs)
    wanted = operations.run(graph, inputs)
    assert len(found) == 4
    for got, value in zip(found, wanted):
        np.testing.assert_allclose(got, value.numpy(), rtol=1e-5, atol=1e-5)


def test_slices_are_views_where_they_can_be(tmp_path: Path) -> None:
    b = Builder()
    x = b.input(1, 6, 32)
    hidden = b.gemm(x, 32)
    first = b.reshape(b.slice(hidden, 1, 0, 1), 1, 32)
    image = b.conv2d(b.input(1, 3, 6, 6), 32)
    halves = [b.slice(image, 1, start, start + 16) for start in (0, 16)]
    odd, columns = b.slice(image, 1, 3, 30), b.slice(hidden, 2, 5, 9)
    outputs = [hidden, b.gemm(first, 8), b.slice(x, 1, 2, 4), b.binary("add", *halves), odd, columns]
    graph = b.graph(*outputs)
    planned_of(graph, tmp_path / "plan")
    plan = planner.load(tmp_path / "plan")
    copied = [step["outputs"] for step in plan.header["program"]["steps"] if step["op"] == "slice"]
    assert copied == [[odd], [columns]]
    inputs = random_inputs(graph, 3)
    for got, wanted in zip(plan(*inputs), operations.run(graph, inputs)):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4, atol=1e-4)


def test_tensors_of_every_rank_and_none_at_all(tmp_path: Path) -> None:
    b = Builder()
    number, row, five, nothing = b.input(), b.input(5), b.input(2, 1, 3, 2, 2), b.input(1, 0, 4, 4)
    alone = b.binary("sub", b.unary("exp", number), b.constant(2.0))
    empty = b.unary("relu", b.unary("exp", nothing))
    outputs = [alone, b.binary("mul", row, alone), b.unary("tanh", five), empty, b.reshape(number, 1), number]
    graph = b.graph(*outputs)
    planned_of(graph, tmp_path / "plan")
    inputs = random_inputs(graph, 1)
    for got, wanted in zip(planner.load(tmp_path / "plan")(*inputs), operations.run(graph, inputs)):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5, atol=1e-5)


class Embedded(torch.nn.Module):
    """Tokens and the longest of some vectors, both looked up, with an output that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(7, 16)
        self.dense = torch.nn.Linear(16, 16)

    def forward(self, tokens: torch.Tensor, unread: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.dense(self.table(tokens)).relu()
        _, places = x.topk(2, dim=1)
        return self.dense(found) + found, self.table(places), places


def test_indices_from_outside_and_inside_hold_when_a_plan_runs_again(tmp_path: Path) -> None:
    tokens = torch.tensor([[1, 2, 6, 0, 3, 5]])
    source = torch_source(Embedded(), tokens, torch.ones(1, 2, dtype=torch.int64), torch.randn(1, 7))
    graph = import_model(source)
    planned_of(graph, tmp_path / "plan")
    plan, inputs = planner.load(tmp_path / "plan"), source.random_inputs(1)
    plan(*inputs)
    for _ in range(3):
        plan.program.run()
    assert np.array_equal(plan.program.inputs[0], tokens)
    for got, wanted in zip(plan(*inputs), source.reference(inputs)):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_a_residual_that_is_the_nodes_own_input_in_batches(tmp_path: Path) -> None:
    b = Builder()
    x = b.input(2, 20, 5, 5)
    image = b.unary("relu", b.binary("add", b.conv2d(x, 20, bias=True), x))
    rows = b.input(3, 2, 12)
    graph = b.graph(image, b.unary("gelu", b.binary("add", b.gemm(rows, 12, bias=True), rows)))
    planned = planned_of(graph, tmp_path / "plan")
    assert all(node.attributes["residual"] for node in planned.draft.assembly.graph.nodes)
    inputs = random_inputs(graph, 1)
    for got, wanted in zip(planner.load(tmp_path / "plan")(*inputs), operations.run(graph, inputs)):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4, atol=1e-4)


def test_nothing_exact_is_dropped_for_strictness() -> None:
    b = Builder()
    graph, said = b.graph(b.unary("relu", b.input(4, 4))), []
    everyone, _ = open_providers(cpu_info(), None)
    made = Planner(graph, cpu_info(), everyone, everyone["kernels"].functions, said.append)
    inputs = [value.numpy() for value in random_inputs(graph)]
    with pytest.raises(UserError, match=r"no plan keeps the error within strict=0\.5: .* errs by 1\.0e\+00"):
        made.plan(inputs, [np.maximum(inputs[0], 0) + 1], strict=0.5)
    assert not [text for text in said if "dropped" in text]


class Unsound:
    """Offers what torch computes, and before that what nothing does."""

    pack = staticmethod(torch_provider.pack)

    def unavailable(self) -> str:
        return ""

    def offers(self, graph: Graph, node: Node, target: Target) -> list[Implementation]:
        found = torch_provider.offers(graph, node, target)
        wrong = [replace(offer, label="unsound", settings={**offer.settings, "op": "no such"}) for offer in found]
        return [*wrong, *found]


def test_an_offer_that_fails_is_no_candidate() -> None:
    b = Builder()
    graph, said = b.graph(b.unary("relu", b.input(4, 4))), []
    made = Planner(graph, cpu_info(), {"torch": Unsound()}, {}, said.append)
    inputs = [value.numpy() for value in random_inputs(graph)]
    planned = made.plan(inputs, [np.maximum(inputs[0], 0)])
    assert [offer.label for offer in planned.draft.chosen.values()] == ["torch"]
    assert "unary0: unsound fails ('no such'), so it is no candidate" in said


def test_switches_of_planning(tmp_path: Path) -> None:
    planned = planned_of(small_net(), tmp_path / "plan", skip=("assign_layouts", "plan_memory"))
    assert {buffer.layout for buffer in planned.draft.assembly.buffers.values()} == {"plain"}
    assert planned.draft.memory.bytes == planned.draft.memory.unshared_bytes


def test_strictness_that_nothing_keeps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no plan keeps the error within strict=1e-12"):
        planned_of(small_net(), tmp_path / "plan", strict=1e-12)
    assert not (tmp_path / "plan").exists()


def test_errors_are_told_by_step(tmp_path: Path) -> None:
    planned = planned_of(small_net(), tmp_path / "plan")
    names = {step.node.name for step in planned.draft.assembly.steps if step.node.op != "convert"}
    assert {each.step for each in planned.step_errors} == names
    assert all(0 <= each.error < 1e-4 for each in planned.step_errors)
    assert torch.is_inference_mode_enabled() is False

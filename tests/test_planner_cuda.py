"""Plans for GPUs: on an interpreted GPU whole, from offers to a loaded plan, and where there is one on a real one.

What the interpreted GPU cannot tell: cuDNN's and cuBLASLt's own calls, captured graphs, and every time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.interpreted_gpu import InterpretedGpu, NoVendorGpu
from tests.planner_graphs import Builder, random_inputs, small_net
from wpk_envs import planner
from wpk_envs.core import Candidate, DeviceInfo, Measurement
from wpk_envs.devices.cuda import descriptions
from wpk_envs.devices.cuda.gpu import Gpu
from wpk_envs.errors import UserError
from wpk_envs.planner import layouts, operations, passes, providers
from wpk_envs.planner import plan as plan_file
from wpk_envs.planner.cuda import presence
from wpk_envs.planner.cuda.functions import CudaFunctions
from wpk_envs.planner.cuda.kernels import CudaKernelProvider
from wpk_envs.planner.cuda.runtime import CudaRuntime, HostCall
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Implementation, Provider, Resources, Target
from wpk_envs.planner.offering import Offers
from wpk_envs.planner.operator_of import operator_of
from wpk_envs.planner.planning import Planned, Planner, image_layouts
from wpk_envs.planner.writing import write
from wpk_envs.records import Store
from wpk_envs.schedules import build_space

REAL = pytest.param("real", marks=pytest.mark.gpu)


@pytest.fixture(scope="module", params=["interpreted", REAL])
def gpu(request: pytest.FixtureRequest) -> Gpu:
    pytest.importorskip("cuda.bindings.nvrtc")
    return InterpretedGpu() if request.param == "interpreted" else presence.open_gpu()


@pytest.fixture(scope="module")
def device(gpu: Gpu) -> DeviceInfo:
    return descriptions.present(gpu.info)


def conv(channels: int, filters: int, residual: bool = False, size: int = 9, **how: Any) -> Graph:
    b = Builder()
    x = b.input(1, channels, size, size)
    kernel, stride = how.pop("kernel"), how.pop("stride", 1)
    weight = b.random(filters, channels // how.get("groups", 1), kernel, kernel, scale=0.1)
    inputs = [x, weight, b.random(filters)]
    attributes = {
        "stride": (stride, stride),
        "padding": (kernel // 2, kernel // 2),
        "bias": True,
        "activation": "relu",
        **how,
    }
    if residual:
        inputs.append(b.input(1, filters, size, size))
        attributes["residual"] = True
    return b.graph(b.add("conv2d", *inputs, **attributes))


def gemm(residual: bool = False, **how: Any) -> Graph:
    b = Builder()
    a = b.input(1, 9, 24)
    inputs = [a, b.random(24, 40, scale=0.2), b.random(40), *([b.input(1, 9, 40)] if residual else [])]
    return b.graph(b.add("gemm", *inputs, bias=True, residual=residual, **how))


CASES = {
    "3x3": conv(8, 16, kernel=3),
    "3x3 residual": conv(16, 16, residual=True, kernel=3),
    "1x1": conv(16, 32, residual=True, kernel=1, activation="relu6"),
    "stride": conv(8, 16, kernel=3, stride=2, activation="none"),
    "depthwise": conv(16, 16, kernel=3, groups=16),
    "gemm": gemm(activation="relu"),
    "gemm residual": gemm(residual=True),
    "gemm gelu": gemm(activation="gelu"),
}


def computed(
    graph: Graph, offer: Implementation, provider: Provider, resources: Resources, arrays: dict[str, np.ndarray]
) -> np.ndarray:
    """What an offer makes of a graph's only node, in the canonical layout."""
    (node,) = graph.nodes
    runtime = resources.gpu
    inputs = [
        runtime.held(layouts.to_buffer(arrays[name], layout))
        for name, layout in zip(graph.activations(node), offer.inputs)
    ]
    tensor = graph.tensors[node.output]
    output = runtime.held(np.full(layouts.buffer_shape(offer.outputs[0], tensor.shape), np.nan, np.float32))
    constants = {name: runtime.held(value) for name, value in provider.pack(graph, node, offer).items()}
    call = providers.binder(offer.provider)(offer.settings, inputs, [output], constants, resources)
    for run in runtime.together([offer.provider], [call]):
        run()
    return layouts.from_buffer(runtime.read(output), offer.outputs[0], tensor.shape)


def check(graph: Graph, offers: list[Implementation], provider: Provider, resources: Resources) -> None:
    (node,) = graph.nodes
    rng = np.random.default_rng(1)
    arrays = {name: rng.standard_normal(graph.tensors[name].shape, np.float32) for name in graph.inputs}
    values = {**arrays, **graph.constants}
    (wanted,) = (each.numpy() for each in operations.evaluate(node, [torch.from_numpy(values[n]) for n in node.inputs]))
    for offer in offers:
        got = computed(graph, offer, provider, resources, arrays)
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max(), offer


# --- our kernels


def kernels_of(device: DeviceInfo, gpu: Gpu, store: Store | None = None) -> tuple[CudaKernelProvider, Resources]:
    provider = CudaKernelProvider(device, store, CudaFunctions(device, gpu))
    return provider, Resources(1, provider.functions, CudaRuntime(gpu))


@pytest.mark.parametrize("name", CASES)
def test_default_kernels(name: str, gpu: Gpu, device: DeviceInfo) -> None:
    graph = CASES[name]
    provider, resources = kernels_of(device, gpu)
    offers = provider.offers(graph, graph.nodes[0], Target(device, image_layouts(device)))
    if name == "gemm gelu":
        assert offers == [], "templates have no GELU"
        return
    (offer,) = offers
    assert offer.settings["source"] == "default"
    check(graph, offers, provider, resources)


TUNED = [("winograd_conv", "plain"), ("implicit_gemm_conv", "plain"), ("implicit_gemm_conv", "NHWC")]


@pytest.mark.parametrize(("template", "layout"), TUNED)
def test_tuned_kernels_in_their_own_layout(
    template: str, layout: str, gpu: Gpu, device: DeviceInfo, tmp_path: Path
) -> None:
    graph = CASES["3x3 residual"]
    operator = operator_of(graph, graph.nodes[0])
    assert operator is not None
    space, rng = build_space(operator, device, [template]), np.random.default_rng(0)
    words = {"plain": "nchw", "NHWC": "nhwc"}
    with Store(tmp_path / "records.sqlite") as store:
        candidate: Candidate
        while (candidate := space.candidate(space.sample(rng))).config.get("layout", "nchw") != words[layout]:
            pass
        store.put(candidate, device, Measurement(samples_us=(5.0,)))
        provider, resources = kernels_of(device, gpu, store)
        offers = provider.offers(graph, graph.nodes[0], Target(device, image_layouts(device)))
        only_plain = provider.offers(graph, graph.nodes[0], Target(device, ("plain",)))
    (tuned,) = (offer for offer in offers if offer.settings["source"] == "record")
    assert (tuned.inputs, tuned.outputs) == ((layout, layout), (layout,))
    assert tuned.settings["tuned_us"] == 5.0
    assert (tuned in only_plain) == (layout == "plain")
    check(graph, [tuned], provider, resources)


def test_kernels_are_offered_without_being_compiled(gpu: Gpu, device: DeviceInfo, monkeypatch) -> None:
    from wpk_envs.devices.cuda import build

    monkeypatch.setattr(build, "build_kernel", lambda *given: pytest.fail("compiled"))
    provider, _ = kernels_of(device, gpu)
    graph = CASES["3x3"]
    assert provider.offers(graph, graph.nodes[0], Target(device, image_layouts(device)))
    assert len(provider.functions) == 1


# --- torch


@pytest.mark.parametrize("name", CASES)
def test_every_way_of_torch(name: str, gpu: Gpu, device: DeviceInfo) -> None:
    graph, steps, resources = CASES[name], torch_steps(), Resources(1, {}, CudaRuntime(gpu))
    offers = steps.offers(graph, graph.nodes[0], Target(device, image_layouts(device)))
    assert len({offer.label for offer in offers}) == len(offers)
    costs = Offers(graph, {"torch_cuda": steps}, Target(device, image_layouts(device)), resources)
    here = [offer for offer in offers if math.isfinite(costs.cost_us(graph.nodes[0], offer))]
    lacking = {offer.settings.get("way") for offer in offers if offer not in here}
    assert lacking <= ({"cudnn", "cudnn_fused"} if gpu.torch_device == "cpu" else {"cudnn_fused"})
    check(graph, here, steps, resources)


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("3x3", {None, "cudnn", "cudnn_fused"}),
        ("1x1", {None, "cudnn", "pixels"}),
        ("stride", {None, "cudnn"}),
        ("gemm", {None, "cublas_nn", "cublas_nt", "cublas_fused"}),
        ("gemm residual", {None, "cublas_nn", "cublas_nt"}),
    ],
)
def test_ways_are_offered_where_they_compute_the_same(name: str, ways: set[str | None]) -> None:
    graph = CASES[name]
    target = Target(DeviceInfo("cuda", "any", {}, {}), ("plain", "NHWC"))
    offers = torch_steps().offers(graph, graph.nodes[0], target)
    assert {offer.settings.get("way") for offer in offers} == ways
    assert {offer.inputs[0] for offer in offers if offer.settings.get("way") == "pixels"} <= {"NHWC"}


def torch_steps() -> Any:
    from wpk_envs.planner.cuda import torch_steps

    return torch_steps


def small_graphs() -> dict[str, Graph]:
    found = {}
    for function in operations.UNARY:
        b = Builder()
        x = b.input(1, 3, 4, 5)
        found[function] = b.graph(b.unary(function, b.unary("exp", x) if function == "sqrt" else x))
    for function in operations.BINARY:
        b = Builder()
        x = b.unary("exp", b.input(1, 3, 4, 5)) if function == "pow" else b.input(1, 3, 4, 5)
        found[function] = b.graph(b.binary(function, x, b.random(3, 1, 1)))
    for ceil_mode in (False, True):
        for count in (False, True):
            b = Builder()
            window = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 1), "ceil_mode": ceil_mode}
            pooled = b.add("avg_pool2d", b.input(1, 3, 8, 7), count_include_pad=count, **window)
            found[f"avg_pool2d {ceil_mode} {count}"] = b.graph(pooled)
    b = Builder()
    found["max_pool2d"] = b.graph(b.max_pool(b.input(1, 3, 9, 8)))
    b = Builder()
    found["global_avg_pool"] = b.graph(b.add("global_avg_pool", b.input(2, 3, 5, 4)))
    b = Builder()
    found["softmax"] = b.graph(b.add("softmax", b.input(2, 3, 5), axis=1))
    b = Builder()
    found["layer_norm"] = b.graph(b.add("layer_norm", b.input(2, 6), b.random(6), b.random(6), epsilon=1e-5))
    b = Builder()
    found["concat"] = b.graph(b.add("concat", b.input(1, 3, 2, 2), b.random(1, 4, 2, 2), axis=1))
    b = Builder()
    found["transpose"] = b.graph(b.transpose(b.input(2, 3, 4), 2, 0, 1))
    b = Builder()
    found["batch_norm"] = b.graph(b.batch_norm(b.input(1, 3, 4, 4)))
    b = Builder()
    found["matmul"] = b.graph(b.add("matmul", b.input(2, 3, 4), b.input(2, 4, 5)))
    b = Builder()
    heads = {"a_axes": (0, 2, 1, 3), "b_axes": (0, 2, 3, 1), "out_axes": (0, 2, 1, 3), "scale": 0.25}
    found["attention"] = b.graph(b.add("matmul", b.input(1, 5, 2, 4), b.input(1, 6, 2, 4), **heads))
    return found


SMALL = small_graphs()


@pytest.mark.parametrize("name", SMALL)
def test_every_operation_in_torch(name: str, gpu: Gpu, device: DeviceInfo) -> None:
    graph = SMALL[name]
    node = graph.nodes[-1]
    only = dataclasses.replace(graph, nodes=(node,), inputs=graph.activations(node))
    steps = torch_steps()
    offers = steps.offers(only, node, Target(device, image_layouts(device)))
    assert offers
    check_small(only, offers, steps, Resources(1, {}, CudaRuntime(gpu)), positive=name in ("sqrt", "pow"))


def check_small(graph: Graph, offers: list[Implementation], steps: Any, resources: Resources, positive: bool) -> None:
    (node,), rng = graph.nodes, np.random.default_rng(2)
    arrays = {name: rng.standard_normal(graph.tensors[name].shape, np.float32) for name in graph.inputs}
    arrays = {name: np.abs(array) if positive else array for name, array in arrays.items()}
    values = {**arrays, **graph.constants}
    (wanted,) = operations.evaluate(node, [torch.from_numpy(values[name]) for name in node.inputs])
    for offer in offers:
        got = computed(graph, offer, steps, resources, arrays)
        np.testing.assert_allclose(got, wanted.numpy(), rtol=2e-5, atol=2e-5, err_msg=str(offer))


@pytest.mark.parametrize(("source", "sink"), [("plain", "NHWC"), ("NHWC", "plain")])
def test_conversions(source: str, sink: str, gpu: Gpu, device: DeviceInfo) -> None:
    tensor = Tensor((2, 3, 4, 5))
    node = Node("convert", "convert", ("x",), ("y",), {"from": source, "to": sink})
    graph = Graph("", ("x",), ("y",), (node,), {"x": tensor, "y": tensor}, {})
    steps = torch_steps()
    (offer,) = steps.offers(graph, node, Target(device, image_layouts(device)))
    array = np.random.default_rng(0).standard_normal(tensor.shape, np.float32)
    got = computed(graph, offer, steps, Resources(1, {}, CudaRuntime(gpu)), {"x": array})
    assert np.array_equal(got, array)


def test_torchs_switches_are_as_before() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def switches() -> tuple[bool, ...]:
        return cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32, torch.is_inference_mode_enabled()

    before = switches()
    with torch_steps().exact():
        assert switches() == (True, False, False, True)
    assert switches() == before


# --- the runtime


class Counting(InterpretedGpu):
    """Counts graphs and what waits for the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.graphs: list[int] = []

    def repeated(self, call: Any, count: int) -> Any:
        self.graphs.append(count)
        return super().repeated(call, count)


def test_calls_are_captured_in_stretches_and_the_end_is_awaited() -> None:
    gpu = Counting()
    made: list[str] = []
    calls = [lambda: made.append("a"), lambda: made.append("b"), HostCall(lambda: made.append("host"))]
    together = CudaRuntime(gpu).together(["torch_cuda"] * 3, [*calls, lambda: made.append("c")])
    assert made == ["a", "b", "host", "c"], "everything ran once before"
    assert gpu.graphs == [1, 1], "a graph before the host's call and one after it"
    assert len(together) == 4
    made.clear()
    for call in together:
        call()
    assert made == ["a", "b", "host", "c"]
    gpu.is_broken = True
    with pytest.raises(RuntimeError, match="illegal memory access"):
        together[-1]()


def test_what_a_library_lacks_costs_infinitely_much_and_a_full_gpu_is_an_error() -> None:
    runtime = CudaRuntime(InterpretedGpu())

    def lacking() -> None:
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    def full() -> None:
        raise RuntimeError("CUDA out of memory")

    assert runtime.alone_us(lacking, 1, math.inf) == math.inf
    with pytest.raises(RuntimeError, match="out of memory"):
        runtime.alone_us(full, 1, math.inf)
    assert 0 < runtime.alone_us(lambda: None, 2, math.inf) < math.inf


# --- whole plans


class WithoutProducts:
    """Torch's steps but convolutions and matrix products, so that our kernels compute those."""

    def offers(self, graph: Graph, node: Node, target: Target) -> list[Implementation]:
        return [] if node.op in ("conv2d", "gemm") else torch_steps().offers(graph, node, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch_steps(), name)


def planned_of(graph: Graph, folder: Path, gpu: Gpu, device: DeviceInfo, kernels: bool = False, **how: Any) -> Planned:
    offering, missing = providers.open_providers(device, None, gpu)
    assert not missing
    functions = providers.functions_of(offering)
    if kernels:
        offering["torch_cuda"] = WithoutProducts()  # type: ignore[assignment]
    optimised, _ = passes.optimise(graph)
    inputs = random_inputs(graph)
    reference = [value.numpy() for value in operations.run(graph, inputs)]
    planned = Planner(optimised, device, offering, functions, gpu=gpu, **how).plan(
        [value.numpy() for value in inputs], reference
    )
    write(folder, planned, device, functions, gpu)
    return planned


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, gpu: Gpu, device: DeviceInfo) -> Path:
    """A plan in which our kernels compute every product."""
    folder = tmp_path_factory.mktemp("planned") / "plan"
    planned_of(small_net(12, 16), folder, gpu, device, kernels=True)
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "plan"))


def off_by(plan: planner.Plan, graph: Graph, seed: int) -> float:
    """The largest error of a plan's only output, relative to its largest value."""
    inputs = random_inputs(graph, seed)
    (wanted,) = operations.run(graph, inputs)
    got = plan(*inputs)
    assert got.shape == tuple(wanted.shape)
    return float(np.abs(got - wanted.numpy()).max() / np.abs(wanted.numpy()).max())


def test_a_plan_of_our_kernels_computes_what_the_graph_does(made: Path, gpu: Gpu) -> None:
    plan = planner.load(made, gpu)
    assert {step["provider"] for step in plan.header["program"]["steps"]} == {"cuda_kernels", "torch_cuda"}
    assert max(off_by(plan, small_net(12, 16), seed) for seed in range(3)) < 1e-4
    copy = plan.copy()
    assert off_by(copy, small_net(12, 16), 4) < 1e-4
    assert all(copy.program.constants[name] is array for name, array in plan.program.constants.items())


def test_a_plan_of_whatever_is_fastest(tmp_path: Path, gpu: Gpu, device: DeviceInfo) -> None:
    planned = planned_of(small_net(12, 16), tmp_path / "plan", gpu, device)
    assert planned.max_abs_error < 1e-4
    assert planned.latencies_us.keys() <= {"any layout", "plain only"}
    assert {buffer.layout for buffer in planned.draft.assembly.buffers.values()} <= {"plain", "NHWC"}
    plan = planner.load(tmp_path / "plan", gpu)
    assert off_by(plan, small_net(12, 16), 1) < 1e-4
    tried = {offer.provider for standing in planned.draft.standings for offer in standing.candidates}
    assert tried <= {"cuda_kernels", "torch_cuda"}


def test_a_plan_without_layouts_and_shared_memory(tmp_path: Path, gpu: Gpu, device: DeviceInfo) -> None:
    skip = ("assign_layouts", "plan_memory")
    planned = planned_of(small_net(12, 16), tmp_path / "plan", gpu, device, kernels=True, skip=skip)
    assert {buffer.layout for buffer in planned.draft.assembly.buffers.values()} == {"plain"}
    assert planned.draft.memory.bytes == planned.draft.memory.unshared_bytes


def test_what_the_framework_alone_computes_is_part_of_the_plan(tmp_path: Path, gpu: Gpu, device: DeviceInfo) -> None:
    b = Builder()
    x = b.binary("mul", b.input(1, 4, 3, 3), b.random(4, 1, 1))
    doubled = b.unary("relu", x)
    graph = b.graph(b.binary("add", doubled, x), b.random(3))
    sums = {"framework": "torch", "target": "aten.cumsum.default", "arguments": SUMS}
    nodes = tuple(
        dataclasses.replace(node, op="framework", attributes=sums) if node.output == doubled else node
        for node in graph.nodes
    )
    planned_of(dataclasses.replace(graph, nodes=nodes), tmp_path / "plan", gpu, device)
    (given,) = random_inputs(graph, 3)
    plan = planner.load(tmp_path / "plan", gpu)
    wanted = operations.run(dataclasses.replace(graph, nodes=nodes), [given])
    for got, each in zip(plan(given), wanted):
        np.testing.assert_allclose(got, each.numpy(), rtol=1e-5, atol=1e-5)
    assert any(isinstance(call, HostCall) for call in plan.program.calls)


SUMS = {"self": {"tensor": 0}, "dim": 2, "dtype": None}


def test_results_are_new_arrays(made: Path, gpu: Gpu) -> None:
    plan = planner.load(made, gpu)
    first, second = (random_inputs(small_net(12, 16), seed)[0].numpy() for seed in (1, 2))
    one = plan(first)
    kept = one.copy()
    plan(second)
    assert np.array_equal(one, kept)
    assert np.array_equal(plan(first), kept)


@pytest.mark.parametrize("gpu", [REAL], indirect=True)
def test_one_plan_per_thread(made: Path, gpu: Gpu) -> None:
    plan = planner.load(made, gpu)
    inputs = [random_inputs(small_net(12, 16), seed)[0].numpy() for seed in range(4)]
    wanted = [plan(each) for each in inputs]
    found: dict[int, bool] = {}

    def work(number: int) -> None:
        own = plan.copy()
        found[number] = all(np.allclose(own(inputs[number]), wanted[number], atol=1e-5) for _ in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)


def test_a_plan_can_be_read(made: Path, gpu: Gpu) -> None:
    header = json.loads((made / "plan.json").read_text())
    assert header["made_for"]["kind"] == "cuda"
    assert (header["made_for"]["gpu"], header["made_for"]["arch"]) == (gpu.info.model, gpu.info.arch)
    assert {"driver", "torch", "cudnn"} <= header["made_for"]["versions"].keys()
    names = {step["settings"]["function"] for step in header["program"]["steps"] if step["provider"] == "cuda_kernels"}
    launches = json.loads((made / "kernels.json").read_text())
    assert launches.keys() == names
    assert all(launch["grid"] and launch["block"] for kernel in launches.values() for launch in kernel["launches"])
    assert {f"{name}.cubin" for name in names} | {"kernels.json", "weights.safetensors"} == header["files"].keys()


def test_machine_code_is_written(tmp_path: Path) -> None:
    """What the interpreted GPU's plans hold in its place is PTX."""
    from wpk_envs.planner.cuda import library

    pytest.importorskip("cuda.bindings.nvrtc")

    class Compiling(InterpretedGpu):
        image = "cubin"

    gpu = Compiling()
    target = descriptions.describe("p100")
    provider, _ = kernels_of(target, gpu)
    graph = CASES["3x3"]
    (offer,) = provider.offers(graph, graph.nodes[0], Target(target, ("plain",)))
    name = offer.settings["function"]
    library.write(tmp_path, {name: provider.functions.built(name)})
    assert (tmp_path / f"{name}.cubin").read_bytes()[:4] == b"\x7fELF"
    assert json.loads((tmp_path / "kernels.json").read_text())[name]["arch"] == "sm_60"


LOADING = """
import sys
from tests.interpreted_gpu import InterpretedGpu
from wpk_envs import planner
planner.load(sys.argv[1], InterpretedGpu())
print(sorted({"tvm", "tvm_ffi", "cuda.bindings.nvrtc"} & sys.modules.keys()))
"""


def test_loading_compiles_nothing(made: Path, gpu: Gpu) -> None:
    if gpu.image != "ptx":
        pytest.skip("loads into the interpreted GPU")
    command = [sys.executable, "-c", LOADING, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpu": "Another GPU"}, "made for another GPU or version: the GPU was 'Another GPU' and is"),
        ({"arch": "sm_10"}, "its architecture was 'sm_10' and is"),
        ({"versions": {"driver": "1.0"}}, "the software was CUDA 1.0 and is CUDA .*, torch .*; plan again here"),
    ],
)
def test_a_plan_from_elsewhere_is_refused(copied: Path, gpu: Gpu, change: dict[str, Any], message: str) -> None:
    changed(copied, change)
    with pytest.raises(UserError, match=message):
        planner.load(copied, gpu)


def changed(folder: Path, change: dict[str, Any]) -> None:
    """Change what a plan says that it was made for."""
    header = json.loads((folder / "plan.json").read_text())
    header["made_for"] |= change
    (folder / "plan.json").write_text(json.dumps(plan_file.sealed(header)))


def test_a_drivers_release_counts_where_both_are_known() -> None:
    one, other = (dataclasses.replace(InterpretedGpu().info, driver=release) for release in ("570.1", "570.2"))
    unknown = dataclasses.replace(one, driver="")
    presence.check(presence.made_for(one), unknown, "plan")
    presence.check(presence.made_for(unknown), one, "plan")
    with pytest.raises(UserError, match=r"the driver was '570.1' and is '570.2'"):
        presence.check(presence.made_for(one), other, "plan")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_plan_says_which_one_it_wants(copied: Path) -> None:
    with pytest.raises(UserError, match=r"the plan .* was made for the GPU 'Interpreted GPU': .*(CUDA|GPU)"):
        planner.load(copied)


def test_damage_is_found(copied: Path, gpu: Gpu) -> None:
    (code,) = sorted(copied.glob("*.cubin"))[:1]
    for path in (code, copied / "kernels.json"):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=f"{path.name} is not what was written"):
            planner.load(copied, gpu)
        path.write_bytes(whole)
    code.unlink()
    with pytest.raises(UserError, match=r"\.cubin is missing"):
        planner.load(copied, gpu)


def test_a_gpu_that_torch_has_no_kernels_for() -> None:
    gpu = NoVendorGpu()
    sentence = "a plan for Interpreted GPU without a vendor needs torch's kernels for it: torch 2.9 has no kernels"
    with pytest.raises(UserError, match=sentence):
        providers.open_providers(descriptions.present(gpu.info), None, gpu)

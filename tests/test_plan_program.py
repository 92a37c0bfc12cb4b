"""``python -m experiments.plan`` as a user meets it, on tiny models; what it writes, and what it refuses."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from matplotlib import image
from onnx import TensorProto, helper, numpy_helper

from experiments import plan, plan_plot
from experiments.launcher import INTERRUPTED, USER_ERROR, run_program
from experiments.model_plan import Made, ModelPlan
from experiments.peers import PEERS
from tests.interpreted_gpu import InterpretedGpu
from tests.peer_models import two_convs
from wpk_envs import devices, planner
from wpk_envs.devices.cuda.live import CudaDevice
from wpk_envs.errors import UserError
from wpk_envs.planner.cuda import presence
from wpk_envs.planner.models import MODELS
from wpk_envs.records import Store

ROOT = Path(__file__).parent.parent
TINY = "tests.peer_models:tiny"
QUICK = ("tune=false", "peers=none", "seconds=0.1", "logger=none")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder to run in, with a store of its own; Hydra's logging is taken down again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


def start(*arguments: str) -> int:
    return run_program("plan", plan.plan, plan.check, arguments)


def figures_of(folder: Path, name: str = "tiny") -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())["models"][name]


def by_hand(folder: Path, *arguments: str, **environment: str) -> str:
    """Run the program as users do; what it said."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    whole = {**os.environ, "PYTHONPATH": path, "WPK_STORE": str(folder / "records.sqlite"), **environment}
    command = [sys.executable, "-m", "experiments.plan", "hydra.run.dir=run", *arguments]
    done = subprocess.run(command, cwd=folder, env=whole, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(folder / "run" / "summary.json")
    return done.stdout


# --- what it writes


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run's folder, and what it said."""
    folder = tmp_path_factory.mktemp("plan")
    text = by_hand(folder, f"model={TINY}", "tune=false", "peers=[onnxruntime]", "seconds=0.5", "logger=none")
    return folder / "run", text


class TestRun:
    @pytest.fixture
    def run(self, said: tuple[Path, str]) -> Path:
        return said[0]

    def test_the_summary_has_every_figure(self, run: Path) -> None:
        found = figures_of(run)
        assert found["plan_us"] > 0
        assert found["peers"]["onnxruntime"]["latency_us"] > 0
        assert 0 < found["ratio_low"] <= found["ratio_to_fastest_peer"] <= found["ratio_high"]
        assert 0 <= found["max_abs_error"] < 1e-4
        assert found["framework"] == []
        cases = found["operators"]
        assert sorted(step for case in cases for step in case["steps"]) == sorted(found["steps"])
        assert all(case["choice"] and case["latency_us"] > 0 for case in cases)
        second = [case for case in cases if case["runner_up"] is not None]
        assert second
        for case in second:
            assert case["gain"] == pytest.approx(case["runner_up_us"] / case["latency_us"])
            assert case["gain"] >= 1

    def test_the_plan_is_loaded_and_computes_what_the_model_does(self, run: Path) -> None:
        source = two_convs()
        (given,) = source.random_inputs(7)
        (wanted,) = source.reference([given])
        np.testing.assert_allclose(planner.load(run / "plan")(given), wanted, atol=1e-5)

    def test_the_report_tells_what_won(self, run: Path) -> None:
        text, found = (run / "report.md").read_text(), figures_of(run)
        assert text.startswith("# The plan of tiny\n")
        for case in found["operators"]:
            assert f"| {case['choice']} " in text
        assert f"{found['ratio_to_fastest_peer']:.2f} times as fast as the fastest peer (onnxruntime" in text
        assert "- The store " in text
        assert "](plan.png)" in text

    def test_the_table_is_there_in_every_form(self, run: Path) -> None:
        (row,) = csv.DictReader((run / "end_to_end.csv").open(newline=""))
        assert float(row["ratio_to_fastest_peer"]) == pytest.approx(figures_of(run)["ratio_to_fastest_peer"])
        assert "1.18x over TensorRT" in (run / "end_to_end.md").read_text()
        for name in ("end_to_end.png", "plan.png"):
            assert image.imread(run / name)[..., 3].any()

    def test_it_says_what_it_does(self, said: tuple[Path, str]) -> None:
        text = " ".join(said[1].split())
        wanted = (
            "tiny: importing",
            "tiny: 9 operators, 5 after optimisation",
            "has no final measurement of 3 of 3 operators",
            "any layout: timing candidates alone",
            "swapping candidates in the running plan",
            "tiny: writing the plan",
            "tiny: planned in",
            "the plan and its fastest peer",
        )
        places = [text.find(each) for each in wanted]
        assert -1 not in places
        assert places == sorted(places)


def test_without_a_compiler_there_is_a_plan_all_the_same(tmp_path: Path) -> None:
    said = by_hand(tmp_path, f"model={TINY}", *QUICK, PATH=str(tmp_path), CXX="", XDG_CACHE_HOME=str(tmp_path))
    text = " ".join(said.split())
    assert text.count("onednn is no candidate: there is no C++ compiler, which oneDNN's shim needs: install g++") == 1
    assert text.count("the plan compiles its kernels whenever it is loaded") == 1
    found = figures_of(tmp_path / "run")
    assert {case["provider"] for case in found["operators"]} >= {"kernels"}
    assert "onednn" not in {case["provider"] for case in found["operators"]}
    assert not (tmp_path / "run" / "plan" / "kernels.so").exists()
    assert planner.load(tmp_path / "run" / "plan")(two_convs().inputs[0]).shape == (1, 10)


# --- tuning


class Measuring:
    """Counts what the device measures, and presses Ctrl-C when it has measured enough."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.enough: int | None = None
        opening = devices.open_device
        monkeypatch.setattr(devices, "open_device", lambda **settings: self.watched(opening(**settings)))

    def watched(self, device: Any) -> Any:
        measure = device.measure

        def counted(candidates: Sequence[Any], *arguments: Any, **settings: Any) -> Any:
            if self.enough is not None and self.count >= self.enough:
                raise KeyboardInterrupt
            self.count += len(candidates)
            return measure(candidates, *arguments, **settings)

        device.measure = counted
        return device


TUNED = ("tune=true", "algo=random", "budget.trials=2", "run=false", "logger=none")


def test_nothing_is_tuned_twice_and_ctrl_c_loses_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring = Measuring(monkeypatch)
    measuring.enough = 2
    assert start(f"model={TINY}", *TUNED, "hydra.run.dir=first") == INTERRUPTED
    assert "what was measured is in the store, and the same command goes on with it" in capsys.readouterr().err
    assert not (place / "first" / "plan").exists()
    assert json.loads((place / "first" / "summary.json").read_text())["models"] == {}
    with Store(place / "records.sqlite") as store:
        kept = len(list(store.records()))
    assert kept >= 2

    measuring.enough = None
    assert start(f"model={TINY}", *TUNED, "hydra.run.dir=first") == 0
    out = capsys.readouterr().out
    assert "tuning operator 1 of 2" in out, "one was finished before"
    assert "tuning operator 2 of 2" in out
    assert "left" in out.partition("tuning operator 2")[2].partition("\n")[0]
    found = figures_of(place / "first")
    assert found["notes"] == []
    assert "plan_us" not in found
    assert (place / "first" / "report.md").exists()

    spent = measuring.count
    assert start(f"model={TINY}", *TUNED, "hydra.run.dir=second") == 0
    assert measuring.count == spent
    assert "tuning operator" not in capsys.readouterr().out
    assert planner.load(place / "second" / "plan").name == "tiny"


def test_models_that_were_finished_before_ctrl_c_are_in_the_table(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "MODELS", {TINY: None, "resnet18": None})
    whole = ModelPlan.make

    def make(self: ModelPlan) -> Made:
        if self.model == "resnet18":
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(ModelPlan, "make", make)
    assert start("model=all", *QUICK, "hydra.run.dir=run") == INTERRUPTED
    assert "model 2 of 2: resnet18" in capsys.readouterr().out
    assert figures_of(place / "run")["plan_us"] > 0
    assert "| tiny " in (place / "run" / "end_to_end.md").read_text()
    assert planner.load(place / "run" / TINY / "plan").name == "tiny"


def test_wandb_is_told_of_every_model(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(plan, "log_summary", lambda *given: told.append(given))
    assert start(f"model={TINY}", "tune=false", "peers=none", "seconds=0.1", "hydra.run.dir=run") == 0
    ((logger, tracked, digest, folder),) = told
    assert (logger.mode, tracked.job, folder) == ("offline", "plan", place / "run")
    (row,) = digest.rows
    assert (row["model"], row["plan_us"]) == ("tiny", figures_of(place / "run")["plan_us"])
    assert row["fastest_peer"] is None


# --- ONNX


def onnx_file(path: Path, nodes: Sequence[Any], shape: Sequence[Any], **constants: np.ndarray) -> Path:
    """A model of an input x and an output y."""
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    results = [helper.make_value_info("y", onnx.TypeProto())]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", values, results, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def test_an_onnx_file(place: Path) -> None:
    source = two_convs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = tuple(map(torch.from_numpy, source.inputs))
        torch.onnx.export(source.module, given, str(place / "net.onnx"), dynamo=False)
    assert start("model=net.onnx", *QUICK, "hydra.run.dir=run") == 0
    assert figures_of(place / "run", "net")["max_abs_error"] < 1e-5
    (wanted,) = source.reference(source.inputs)
    np.testing.assert_allclose(planner.load(place / "run" / "plan")(source.inputs[0]), wanted, atol=1e-5)


def test_an_unknown_operator_is_a_step_that_is_listed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weight = np.random.default_rng(0).standard_normal((16, 3, 3, 3), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("CumSum", ["a", "axis"], ["y"], name="sums"),
    ]
    onnx_file(place / "net.onnx", nodes, (1, 3, 8, 8), w=weight, axis=np.array(2))
    assert start("model=net.onnx", *QUICK, "hydra.run.dir=run") == 0
    (listed,) = figures_of(place / "run", "net")["framework"]
    assert listed["operator"] == "CumSum"
    sentence = f"1 of 2 operators run through the framework: {listed['step']} (CumSum)"
    assert sentence in capsys.readouterr().out
    assert f"- {sentence}." in (place / "run" / "report.md").read_text()
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32)
    wanted = torch.conv2d(torch.from_numpy(x), torch.from_numpy(weight), padding=1).cumsum(2)
    np.testing.assert_allclose(planner.load(place / "run" / "plan")(x), wanted.numpy(), atol=1e-4)


# --- what it refuses


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on standard error."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("model=resnet81", "unknown model 'resnet81'; did you mean resnet18"),
        ("model=resnet81", "(allowed: all, bert_base, "),
        ("model=missing.onnx", "there is no file missing.onnx: give the path of an ONNX model"),
        ("model=all weights=w.pt", "weights=w.pt are those of one model: name it with model=NAME"),
        ("strict=0", "strict must be greater than 0, not 0.0"),
        ("strict=little", "strict must be a number, not 'little'"),
        ("seconds=-1", "seconds must be greater than 0, not -1.0"),
        ("skip=fold_batch_norm", "skip must be a list, such as skip=[fold_batch_norm]"),
        ("skip=[fold_batchnorm]", "unknown pass 'fold_batchnorm'; did you mean fold_batch_norm"),
        ("skip=[fold]", "assign_layouts, eliminate_common_subexpressions, "),
        ("peers=[onnx]", "unknown peer 'onnx'"),
        ("peers=5", "peers must be all, installed, none or a list such as peers=[onnxruntime], not 5"),
        ("peers=[installed,openvino]", "names peers beside all or installed: write one or the other"),
        ("peers=[tensorrt]", "there is no peer tensorrt for cpu"),
        ("run=maybe", "run must be true or false, not 'maybe'"),
        ("device=cuda peers=[onnxruntime]", "there is no peer onnxruntime for cuda"),
        ("device=p100", "device=p100 only predicts, and this needs measurements"),
        ("logger=csv logger.name=paper", "unknown logger.name 'paper'"),
        ("algo=nobody", "unknown algo 'nobody'"),
    ],
)
def test_values_that_cannot_be(place: Path, capsys: pytest.CaptureFixture[str], arguments: str, sentence: str) -> None:
    assert start(*arguments.split()) == USER_ERROR
    assert sentence in refused(capsys)
    assert list(place.iterdir()) == []


def test_peers_that_are_not_installed_are_named_with_the_extra(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else found(name))
    assert start("peers=all") == USER_ERROR
    assert "peer openvino needs openvino; install it with pip install 'wpk-envs[planner]'" in refused(capsys)
    assert list(place.iterdir()) == []


def no_model(folder: Path) -> str:
    (folder / "bad.onnx").write_bytes(b"no model at all")
    return "model=bad.onnx"


def dynamic_shapes(folder: Path) -> str:
    return f"model={onnx_file(folder / 'net.onnx', [helper.make_node('Relu', ['x'], ['y'])], ('rows', 4))}"


def float16_weights(folder: Path) -> str:
    nodes = [helper.make_node("Cast", ["w"], ["v"], to=TensorProto.FLOAT), helper.make_node("Add", ["x", "v"], ["y"])]
    return f"model={onnx_file(folder / 'net.onnx', nodes, (2, 4), w=np.ones(4, np.float16))}"


def no_weights(folder: Path) -> str:
    (folder / "weights.safetensors").write_bytes(b"no weights at all")
    return f"model={TINY} weights=weights.safetensors"


def weights_of_an_onnx_file(folder: Path) -> str:
    return f"{no_model(folder)} weights=weights.pt"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (no_model, "bad.onnx is no valid ONNX model"),
        (dynamic_shapes, "has the dynamic shape [rows, 4]; a plan needs numbers: export it with a static shape"),
        (float16_weights, "is FLOAT16, but plans compute in float32 only: convert the model"),
        (lambda folder: "model=tests.peer_models:halved", "is float16, but plans compute in float32 only: convert it"),
        (lambda folder: "model=tests.peer_models:nothing", "has no function 'nothing'"),
        (no_weights, "weights.safetensors is no file of weights that can be read"),
        (weights_of_an_onnx_file, "holds its weights already: leave out weights=weights.pt"),
        (lambda folder: f"model={TINY} device.threads=4096", "device.threads must be a whole number from 1 to"),
        (lambda folder: f"model={TINY} strict=1e-15", "no plan keeps the error within strict=1e-15"),
    ],
)
def test_models_that_cannot_be_planned(
    place: Path, capsys: pytest.CaptureFixture[str], given: Callable[[Path], str], sentence: str
) -> None:
    assert start(*given(place).split(), *QUICK, "hydra.run.dir=run") == USER_ERROR
    assert sentence in refused(capsys)
    assert {each.name for each in (place / "run").iterdir()} <= {".hydra", "plan.log"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_plan_for_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start(f"model={TINY}", *QUICK, "device=cuda", "hydra.run.dir=run") == USER_ERROR
    assert "GPU" in refused(capsys)
    assert not (place / "run" / "plan").exists()


def test_a_plan_for_a_gpu_that_is_interpreted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    interpreted = CudaDevice(gpu="tests.interpreted_gpu:InterpretedGpu", workers=1)
    monkeypatch.setattr(devices, "open_device", lambda **settings: interpreted)
    monkeypatch.setattr(presence, "open_gpu", lambda index: InterpretedGpu(index))
    assert start(f"model={TINY}", *QUICK, "device=cuda", "hydra.run.dir=run") == 0
    found = figures_of(place / "run")
    assert found["plan_us"] > 0
    assert found["clock"].startswith("wall clock")
    assert found["max_abs_error"] < 1e-4
    assert {case["provider"] for case in found["operators"]} <= {"cuda_kernels", "torch_cuda"}
    assert "Interpreted GPU" in (place / "run" / "report.md").read_text()
    source = two_convs()
    (given,) = source.random_inputs(7)
    (wanted,) = source.reference([given])
    plan = planner.load(place / "run" / "plan", InterpretedGpu())
    np.testing.assert_allclose(plan(given), wanted, atol=1e-4)


@pytest.mark.gpu
def test_a_plan_for_a_gpu_beside_its_peers(place: Path) -> None:
    assert start(f"model={TINY}", "tune=false", "seconds=0.5", "logger=none", "device=cuda", "hydra.run.dir=run") == 0
    found = figures_of(place / "run")
    assert found["peers"].keys() >= {"torch_eager", "torch_compile"}
    assert found["plan_us"] > 0
    assert found["max_abs_error"] < 1e-4
    source = two_convs()
    (given,) = source.random_inputs(7)
    (wanted,) = source.reference([given])
    np.testing.assert_allclose(planner.load(place / "run" / "plan")(given), wanted, atol=1e-4)


def test_a_folder_that_cannot_be_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "run").mkdir()
    (place / "run" / ".plan.making").touch()
    assert start(f"model={TINY}", *QUICK, "hydra.run.dir=run") == USER_ERROR
    assert "cannot write" in refused(capsys)
    assert not (place / "run" / "plan").exists()


def test_all_is_every_built_in_network() -> None:
    composed = compose("model=all", "peers=none")
    assert plan.check(composed).models == tuple(MODELS)
    with pytest.raises(UserError, match="are those of one model"):
        plan.check(compose("model=all", "weights=w.pt"))


def test_what_is_installed_is_the_default_without_the_slow() -> None:
    chosen = plan.check(compose()).options.peers
    assert {peer.name for peer in chosen} == {"torch_eager", "torch_compile", "onnxruntime", "openvino"}
    assert [peer.name for peer in PEERS if peer.slow] == ["tvm_default"]


def compose(*overrides: str) -> Any:
    from hydra import compose, initialize_config_module

    from experiments import config

    config.register()
    with initialize_config_module("conf", version_base="1.3"):
        return compose("plan", overrides=list(overrides))


# --- the picture


def case(*steps: str, us: float = 1.0, second: float | None = None, **more: Any) -> dict[str, Any]:
    plain = {"operation": "conv2d", "provider": "onednn", "choice": "one", "latency_us": us, "runner_up_us": second}
    return {"steps": list(steps), **plain, **more}


FEW: dict[str, Any] = {
    "steps": ["a", "a to NHWC", "b", "c"],
    "operators": [
        case("a", "c", us=3.0, second=4.0),
        case("a to NHWC", operation="convert"),
        case("b", provider="kernels", us=2.0, second=900.0),
    ],
}


class TestPicture:
    def test_few_steps_are_drawn_in_the_order_of_execution(self) -> None:
        drawn = plan_plot.bars(FEW)
        assert [(bar.label, bar.kind, bar.us) for bar in drawn] == [
            ("a", "onednn", 3.0), ("a to NHWC", "conversions", 1.0), ("b", "kernels", 2.0), ("c", "onednn", 3.0),
        ]  # fmt: skip

    def test_many_steps_are_drawn_by_case(self) -> None:
        names = [f"a.long.name.of.a.layer.with.the.number.{number}" for number in range(plan_plot.MOST_BARS)]
        many = {"steps": [*names, "b"], "operators": [case(*names, us=2.0), case("b", provider="torch")]}
        first, last = plan_plot.bars(many)
        assert (first.count, first.total_us) == (plan_plot.MOST_BARS, 64.0)
        assert first.label.startswith("…")
        assert first.label.endswith("the.number.0  x32")
        assert last.label == "b"

    @pytest.mark.parametrize("factor", [1.0, 1e5])
    def test_it_is_as_high_as_there_are_bars(self, tmp_path: Path, factor: float) -> None:
        found = {
            "steps": FEW["steps"],
            "operators": [{**each, "latency_us": factor * each["latency_us"]} for each in FEW["operators"]],
        }
        plan_plot.save(tmp_path / "few.png", "tiny", found, "Some CPU")
        names = [f"step {number}" for number in range(20)]
        plan_plot.save(tmp_path / "more.png", "tiny", {"steps": names, "operators": [case(*names)]}, "Some CPU")
        few, more = image.imread(tmp_path / "few.png"), image.imread(tmp_path / "more.png")
        assert few.shape[1] == more.shape[1] == 1350
        assert few.shape[0] < more.shape[0]
        assert 0 < few[..., 3].mean() < 0.5, "on a transparent ground"

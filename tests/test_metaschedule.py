"""TVM's MetaSchedule: its candidates are right and measured like any other, its search keeps the budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import agents
from agents.metaschedule import MetaSchedule
from tests.synthetic import SyntheticDevice, tiny_problem
from wpk_envs import tvm_adapter
from wpk_envs.core import Kernel, Operator
from wpk_envs.devices.cpu import CpuDevice
from wpk_envs.devices.host import cpu_info
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.schedules import templates_for
from wpk_envs.schedules.cpu.metaschedule import METASCHEDULE, TraceSpace, replay, trace_text, tune_context
from wpk_envs.schedules.cpu.workload import WEIGHTS, workload
from wpk_envs.tuning import Budget, TuningProblem

OPERATORS = (
    Conv2d(channels=8, height=7, width=9, filters=16, bias=True, residual=True, activation="relu6"),
    Conv2d(batch=2, channels=8, height=9, width=9, filters=12, groups=2, dilation=2, padding=(2, 1), stride=(2, 1)),
    Conv2d(channels=6, filters=6, groups=6, height=8, width=7, activation="relu"),
    Conv2d(channels=8, filters=16, height=5, width=5, kernel=1, padding=0, bias=True),
    Gemm(5, 12, 8, bias=True, residual=True),
    Gemm(4, 6, 8, batch=3),
)
TINY = Gemm(16, 32, 24)
SMALL: dict[str, Any] = {"batch": 6, "population": 8, "threads": 1}


def labels(operator: Operator) -> str:
    return operator.label


def proposals(operator: Operator, count: int) -> list[str]:
    """Traces that MetaSchedule proposes before it knows anything."""
    ms = tvm_adapter.meta_schedule()
    strategy = ms.search_strategy.EvolutionarySearch(population_size=2 * count, init_min_unmeasured=count)
    context = tune_context(operator, cpu_info(), search_strategy=strategy, num_threads=1, rand_state=1)
    spaces = context.generate_design_space()
    context.pre_tuning(count, count, spaces, ms.database.MemoryDatabase(), ms.cost_model.RandomModel())
    return [trace_text(candidate.sch) for candidate in context.generate_measure_candidates()]


def error_of(operator: Operator, kernel: Kernel) -> float:
    """Run a kernel; the largest deviation from the reference."""
    inputs = operator.random_inputs(np.random.default_rng(0))
    expected = operator.reference(inputs)
    buffers = [argument.pack(inputs[argument.name]) for argument in kernel.arguments[:-1]]
    assert [buffer.shape for buffer in buffers] == [argument.shape for argument in kernel.arguments[:-1]]
    output = kernel.arguments[-1]
    result = tvm_adapter.to_tensor(np.full(output.shape, np.nan, np.float32))
    function = tvm_adapter.compile_cpu(kernel.module, cpu_info().target)
    function(*(tvm_adapter.to_tensor(buffer) for buffer in buffers), result)
    return float(np.abs(output.pack(result.numpy()) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("operator", OPERATORS, ids=labels)
def test_the_workload_is_the_operator(operator: Operator) -> None:
    assert error_of(operator, workload(operator)) < METASCHEDULE.tolerance


@pytest.mark.parametrize("operator", OPERATORS, ids=labels)
def test_traces_give_right_kernels_with_weights_packed_their_way(operator: Operator) -> None:
    layouts = set()
    for trace in proposals(operator, 2):
        kernel = METASCHEDULE.kernel(operator, {"trace": trace}, cpu_info())
        assert error_of(operator, kernel) < METASCHEDULE.tolerance
        layouts.add(kernel.arguments[WEIGHTS].layout)
        again = METASCHEDULE.kernel(operator, {"trace": trace}, cpu_info())
        assert again.module.script() == kernel.module.script()
    assert any(" as (" in layout for layout in layouts)


def test_a_trace_that_does_not_fit_is_an_error() -> None:
    context = tune_context(TINY, cpu_info())
    with pytest.raises(Exception, match="conv"):
        replay(context, [[["GetSBlock", [], ["conv", "main"], ["b0"]]], []])


def test_traces_are_in_no_space_that_others_search() -> None:
    assert METASCHEDULE.name not in {template.name for template in templates_for("cpu")}
    space = TraceSpace(TINY, cpu_info())
    vector = space.add("[[],[]]")
    assert vector == TraceSpace(TINY, cpu_info()).add("[[],[]]")
    assert space.is_valid(vector)
    assert space.candidate(vector).config == {"template": "metaschedule", "trace": "[[],[]]"}
    assert not space.is_valid((1,))
    assert "no trace" in space.explain((1,))


def test_it_is_for_live_cpus_and_its_own_space_alone() -> None:
    agent = agents.get("metaschedule")
    with pytest.raises(UserError, match="this host's CPU, not on synthetic landscape"):
        agent.space(TINY, SyntheticDevice())
    with pytest.raises(UserError, match="its own space alone"):
        agent.tune(tiny_problem(trials=2), seed=0)
    with pytest.raises(UserError, match=r"algo.population of metaschedule must be between 1 and"):
        agents.get("metaschedule", population=0)


@pytest.fixture(scope="module")
def device() -> Iterator[CpuDevice]:
    with CpuDevice() as opened:
        yield opened


def problem(device: CpuDevice, **settings: Any) -> TuningProblem:
    return TuningProblem(TINY, device, MetaSchedule().space(TINY, device), **settings)


def test_it_spends_its_trials_learns_and_goes_on_from_a_journal(device: CpuDevice) -> None:
    agent = MetaSchedule(**SMALL)
    result = agent.tune(problem(device, budget=Budget(trials=10)), seed=3)
    assert result.stop_reason == "trials"
    assert len({trial.vector for trial in result.trials}) == 10
    assert result.best is not None
    assert result.best.measurement.baseline_us
    resumed = agent.tune(problem(device, budget=Budget(trials=11), journal=result.trials), seed=3)
    assert [trial.vector for trial in resumed.trials[:10]] == [trial.vector for trial in result.trials]
    assert [trial.measurement for trial in resumed.trials[:10]] == [trial.measurement for trial in result.trials]
    assert len({trial.vector for trial in resumed.trials}) == 11


def test_it_ends_at_its_seconds(device: CpuDevice) -> None:
    result = MetaSchedule(**SMALL).tune(problem(device, budget=Budget(trials=None, seconds=1e-3)), seed=0)
    assert result.stop_reason == "seconds"
    with pytest.raises(UserError, match="without schedule templates"):
        MetaSchedule().space(TINY, device, ["gemm"])

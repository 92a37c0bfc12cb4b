"""The GPU templates, compiled for four architectures and executed by the PTX interpreter, over ragged shapes."""

import itertools

import numpy as np
import pytest

from tests.conformance.template import TemplateConformance
from wpk_envs import operators
from wpk_envs.core import Template
from wpk_envs.devices.cuda.build import build, build_kernel
from wpk_envs.devices.cuda.descriptions import describe
from wpk_envs.devices.cuda.interpreted import interpret
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.packing import Packing
from wpk_envs.schedules import build_space
from wpk_envs.schedules.cuda import (
    CUDA_TEMPLATES,
    DepthwiseConv,
    DirectConv,
    GemmTemplate,
    ImplicitGemmConv,
    WinogradConv,
)

DEVICES = tuple(describe(name) for name in ("p100", "v100", "a100", "h100"))


class CudaTemplates(TemplateConformance):
    devices = DEVICES
    orders = itertools.cycle(("forward", "reverse"))

    def execute(self, kernel, device, inputs):
        built = build_kernel(kernel, device)
        assert built.program.arch == device.target["arch"]
        return interpret(built.program, built.ptx, inputs, warps=next(self.orders))

    def test_arguments_are_packed_by_recipes(self):
        """What travels with a kernel is plain data, and does the same when it arrives."""
        _, candidate, rng = next(iter(self.cases()))
        inputs = candidate.operator.random_inputs(rng)
        for argument in self.template.kernel(candidate.operator, candidate.config, self.devices[0]).arguments[:-1]:
            travelled = Packing(argument.pack.to_list())
            assert np.array_equal(travelled(inputs[argument.name]), argument.pack(inputs[argument.name]))


class TestDirectConv(CudaTemplates):
    template = DirectConv()
    operators = (
        Conv2d(channels=3, height=31, width=29, filters=24, kernel=7, stride=2, padding=3, bias=True),
        Conv2d(batch=2, channels=24, height=13, width=15, filters=40, bias=True, residual=True, activation="relu6"),
        Conv2d(channels=32, height=14, width=11, filters=48, kernel=(1, 7), padding=(0, 3), groups=2),
        Conv2d(channels=20, height=9, width=9, filters=100, kernel=1, stride=(2, 1), padding=0, activation="relu"),
        Conv2d(channels=12, height=10, width=12, filters=20, dilation=(2, 1), padding=(2, 1), groups=4, bias=True),
    )
    unfit = (Gemm(m=8, n=8, k=8), Conv2d(channels=8, filters=8, groups=8))


class TestImplicitGemmConv(CudaTemplates):
    template = ImplicitGemmConv()
    operators = (
        *TestDirectConv.operators[:3],
        Conv2d(channels=12, height=10, width=12, filters=20, dilation=(2, 1), padding=(2, 1), groups=4, bias=True),
        Conv2d(channels=19, height=8, width=7, filters=33, kernel=1, padding=1, residual=True),
    )
    unfit = (Gemm(m=8, n=8, k=8), Conv2d(kernel=1, padding=0), Conv2d(channels=8, filters=8, groups=8))


class TestWinogradConv(CudaTemplates):
    template = WinogradConv()
    samples = 3
    operators = (
        Conv2d(channels=16, height=14, width=14, filters=32, bias=True, activation="relu"),
        Conv2d(batch=2, channels=20, height=13, width=9, filters=24, bias=True, residual=True, activation="relu6"),
        Conv2d(channels=3, height=24, width=17, filters=10, padding=(0, 2)),
    )
    unfit = (
        Conv2d(stride=2),
        Conv2d(kernel=1, padding=0),
        Conv2d(groups=2),
        Conv2d(dilation=2, padding=2),
        Gemm(m=8, n=8, k=8),
    )


class TestDepthwiseConv(CudaTemplates):
    template = DepthwiseConv()
    operators = (
        Conv2d(channels=24, filters=24, groups=24, height=15, width=13, bias=True, residual=True, activation="relu6"),
        Conv2d(batch=2, channels=10, filters=10, groups=10, height=29, width=9, stride=2, activation="relu"),
        Conv2d(channels=33, filters=33, groups=33, height=12, width=12, kernel=5, padding=2),
        Conv2d(channels=16, filters=32, groups=16, height=18, width=18, kernel=(1, 3), padding=0, dilation=(1, 2)),
    )
    unfit = (Conv2d(), Conv2d(channels=8, filters=8, groups=4), Gemm(m=8, n=8, k=8))


class TestGemm(CudaTemplates):
    template = GemmTemplate()
    operators = (
        Gemm(m=67, n=100, k=64, bias=True, residual=True, activation="relu"),
        Gemm(m=1, n=200, k=48, bias=True),
        Gemm(m=33, n=24, k=30, batch=3, bias=True, residual=True),
        Conv2d(channels=24, height=9, width=7, filters=40, kernel=1, padding=0, bias=True, activation="relu6"),
        Conv2d(batch=2, channels=8, height=10, width=10, filters=12, kernel=1, stride=2, padding=0, residual=True),
    )
    unfit = (Conv2d(), Conv2d(kernel=1, padding=1), Conv2d(kernel=1, padding=0, groups=2))


@pytest.mark.parametrize("template", CUDA_TEMPLATES, ids=lambda template: template.name)
def test_configs_seldom_spill_or_use_local_memory(template: Template):
    """At least 95% of sampled configs keep everything in registers; P100 has the fewest multiprocessors."""
    names = ("conv3x3", "conv1x1", "conv7x7_s2", "depthwise3x3", "gemm")
    fitting = [operators.get(name) for name in names if template.fits(operators.get(name), DEVICES[0])]
    rng, kept, total = np.random.default_rng(7), 0, 0
    for operator in fitting:
        space = build_space(operator, DEVICES[0], [template.name.split("/")[1]])
        for _ in range(20 // len(fitting)):
            program = build(space.candidate(space.sample(rng)), DEVICES[0]).program
            kept += program.spill_bytes == program.local_bytes == 0
            total += 1
    assert kept >= 0.95 * total


@pytest.mark.parametrize("name", operators.names())
def test_every_named_operator_has_a_space_of_hundreds_of_configs(name):
    for device in (DEVICES[0], DEVICES[3]):
        assert build_space(operators.get(name), device).size >= 200


def test_members_of_every_suite_have_a_space():
    """Every third one: their spaces take half a second each."""
    for suite in operators.suites().values():
        for member in suite.members[::3]:
            assert build_space(member.operator, DEVICES[3]).size > 0


@pytest.mark.parametrize(
    "operator",
    [
        Gemm(m=1, n=1, k=1),
        Conv2d(channels=1, height=1, width=1, filters=1, kernel=1, padding=0),
        Conv2d(channels=1, height=3, width=3, filters=1, padding=0),
        Conv2d(channels=2, height=3, width=3, filters=2, groups=2, padding=0),
    ],
    ids=lambda operator: operator.label,
)
def test_the_smallest_operators_have_a_space(operator):
    assert build_space(operator, DEVICES[3]).size > 0

"""The CPU templates, compiled and executed, over shapes that divide nothing and vectors of every width."""

import dataclasses

import numpy as np
import pytest

from tests.conformance.template import TemplateConformance
from wpk_envs import operators
from wpk_envs.core import DeviceInfo
from wpk_envs.devices.host import cpu_info
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.schedules import build_space
from wpk_envs.schedules.cpu import DepthwiseConv, DirectConv, GemmTemplate, WinogradConv


def narrowed(device: DeviceInfo, lanes: int, registers: int, threads: int = 1) -> DeviceInfo:
    """This host as if its vectors were narrower: LLVM compiles narrow vectors on any host."""
    limits = {**device.limits, "vector_lanes": lanes, "vector_registers": registers}
    return dataclasses.replace(device, limits=limits, threads=threads)


HOST = cpu_info()
DEVICES = (HOST, narrowed(HOST, 8, 16), narrowed(HOST, 4, 16, threads=2))


class CpuTemplates(TemplateConformance):
    devices = DEVICES

    def execute(self, kernel, device, inputs):
        from wpk_envs.tvm_adapter import compile_cpu, to_tensor

        function = compile_cpu(kernel.module, device.target)
        *arguments, output = kernel.arguments
        buffers = [to_tensor(argument.pack(inputs[argument.name])) for argument in arguments]
        result = to_tensor(np.full(output.shape, np.nan, dtype=np.float32))
        function(*buffers, result)
        return output.pack(result.numpy())


class TestDirectConv(CpuTemplates):
    template = DirectConv()
    operators = (
        Conv2d(channels=3, height=31, width=29, filters=24, kernel=7, stride=2, padding=3, bias=True),
        Conv2d(batch=2, channels=24, height=13, width=15, filters=40, bias=True, residual=True, activation="relu6"),
        Conv2d(channels=32, height=14, width=11, filters=48, kernel=(1, 7), padding=(0, 3), groups=2),
        Conv2d(channels=20, height=9, width=9, filters=1000, kernel=1, stride=(2, 1), padding=0, activation="relu"),
        Conv2d(channels=12, height=10, width=12, filters=20, dilation=(2, 1), padding=(2, 1), groups=4, bias=True),
    )
    unfit = (Gemm(m=8, n=8, k=8), Conv2d(channels=8, filters=8, groups=8))


class TestWinogradConv(CpuTemplates):
    template = WinogradConv()
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


class TestDepthwiseConv(CpuTemplates):
    template = DepthwiseConv()
    operators = (
        Conv2d(channels=24, filters=24, groups=24, height=15, width=13, bias=True, residual=True, activation="relu6"),
        Conv2d(batch=2, channels=10, filters=10, groups=10, height=9, width=9, stride=2, activation="relu"),
        Conv2d(channels=33, filters=33, groups=33, height=12, width=12, kernel=5, padding=2),
        Conv2d(channels=16, filters=16, groups=16, height=8, width=8, kernel=(1, 3), padding=0, dilation=(1, 2)),
    )
    unfit = (Conv2d(), Conv2d(channels=8, filters=16, groups=8), Gemm(m=8, n=8, k=8))


class TestGemm(CpuTemplates):
    template = GemmTemplate()
    operators = (
        Gemm(m=197, n=100, k=64, bias=True, residual=True, activation="relu"),
        Gemm(m=1, n=1000, k=48, bias=True),
        Gemm(m=33, n=24, k=30, batch=3, bias=True, residual=True),
        Conv2d(channels=24, height=9, width=7, filters=40, kernel=1, padding=0, bias=True, activation="relu6"),
        Conv2d(batch=2, channels=8, height=10, width=10, filters=12, kernel=1, stride=2, padding=0, residual=True),
    )
    unfit = (Conv2d(), Conv2d(kernel=1, padding=1), Conv2d(kernel=1, padding=0, groups=2))


@pytest.mark.parametrize("name", operators.names())
def test_every_named_operator_has_a_space_of_hundreds_of_configs(name):
    operator = operators.get(name)
    space = build_space(operator, DEVICES[1])
    assert space.size >= (20 if getattr(operator, "m", 2) == 1 else 200)


def test_every_suite_member_has_a_space():
    for suite in operators.suites().values():
        for member in suite.members:
            assert build_space(member.operator, DEVICES[1]).size > 0


def test_a_1x1_convolution_can_go_through_both_direct_and_gemm():
    assert set(build_space(operators.get("conv1x1"), HOST).templates) == {"direct_conv", "gemm"}


def test_templates_can_be_chosen_by_name():
    space = build_space(operators.get("conv3x3"), HOST, ["winograd_conv"])
    assert set(space.templates) == {"winograd_conv"}
    with pytest.raises(UserError, match="winograd_conv"):
        build_space(operators.get("conv3x3"), HOST, ["winograd"])


def test_a_template_that_does_not_fit_is_a_sentence():
    with pytest.raises(UserError, match="fits gemm"):
        build_space(operators.get("gemm"), HOST, ["winograd_conv"])

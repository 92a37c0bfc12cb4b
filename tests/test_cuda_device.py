"""The CUDA device whole: on an interpreted GPU, and where there is one on a real one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import psutil
import pytest
import torch

from tests import gpu_templates as templates
from tests import interpreted_gpu
from tests.conformance.device import DeviceConformance
from wpk_envs.core import Candidate, Device, ErrorKind, Measurement
from wpk_envs.devices import open_device
from wpk_envs.devices.cuda import builder, descriptions, toolchain
from wpk_envs.devices.cuda.build import build
from wpk_envs.devices.cuda.jobs import Job, ceilings_of
from wpk_envs.devices.cuda.live import CudaDevice
from wpk_envs.devices.cuda.runner import GpuRunner
from wpk_envs.errors import UserError

DEADLINE = 4.0


def interpreted(gpu: str = "InterpretedGpu", **settings) -> CudaDevice:
    return CudaDevice(gpu=f"tests.interpreted_gpu:{gpu}", **{"deadline": DEADLINE, **settings})


@pytest.fixture(scope="module")
def interpreted_device() -> Iterator[CudaDevice]:
    with interpreted() as opened:
        yield opened


class CudaDeviceConformance(DeviceConformance):
    def good(self) -> list[Candidate]:
        return [templates.candidate(tile=tile) for tile in (1, 2, 4, 8)]

    def misbehaving(self) -> list[tuple[Candidate, ErrorKind, str]]:
        cases: list[tuple[type[templates.PlainGemm], ErrorKind, str]] = [
            (templates.Raises, "compile", "this schedule cannot be built"),
            (templates.TooMuchShared, "compile", "too much shared data"),
            (templates.Aborts, "crash", "SIGABRT"),
            (templates.Hangs, "timeout", "deadline of 4 s"),
            (templates.LoopsForever, "timeout", "deadline of 4 s"),
            (templates.WritesOutOfBounds, "crash", "illegal memory access"),
            (templates.OffByABit, "wrong_result", "wrong by 1.0e-03"),
            (templates.WrongShape, "wrong_result", "shape [16, 32] instead of [1, 16, 32]"),
            (templates.WritesNothing, "wrong_result", "32 of 512 output elements were never written"),
            (templates.EndsOnce, "wrong_result", "wrong by"),
            (templates.TooFast, "wrong_result", "suspiciously fast"),
        ]
        return [(templates.candidate(template), kind, words) for template, kind, words in cases]


class TestInterpretedDevice(CudaDeviceConformance):
    @pytest.fixture
    def device(self, interpreted_device: CudaDevice) -> Device:  # type: ignore[override]
        return interpreted_device

    def misbehaving(self) -> list[tuple[Candidate, ErrorKind, str]]:
        return [*super().misbehaving(), (templates.candidate(templates.KillsItsProcess), "crash", "SIGABRT")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that torch can use")
class TestRealDevice(CudaDeviceConformance):
    @pytest.fixture(scope="class")
    def device(self) -> Iterator[Device]:  # type: ignore[override]
        with CudaDevice(deadline=DEADLINE) as opened:
            yield opened


class TestMeasuring:
    def test_details_tell_of_the_kernel_and_how_it_was_timed(self, interpreted_device: CudaDevice):
        (result,) = interpreted_device.measure([templates.candidate()])
        known = {"local_bytes": 0, "spill_bytes": 0, "launches": 1, "protocol": "cold", "gpu": 0, "temperature_c": 20}
        assert known.items() <= result.details.items()
        assert result.details["registers"] > 0
        assert {"hot_us", "hot_baseline_us"} <= result.details.keys()

    def test_the_device_is_the_gpu_with_its_limits_and_versions(self, interpreted_device: CudaDevice):
        info = interpreted_device.info
        assert (info.kind, info.name, info.target["arch"]) == ("cuda", "Interpreted GPU", "sm_60")
        assert info.limits.items() >= interpreted_gpu.PROPERTIES.items()
        assert {"tvm", "nvrtc", "driver", "torch", "cudnn", "protocol"} <= info.versions.keys()
        assert interpreted_device.peak_gflops() == 2 * 64 * 2 * 1.0  # 2 multiprocessors of 64 lanes at 1 GHz

    def test_the_baseline_is_raced_once(self, interpreted_device: CudaDevice):
        baseline = interpreted_device.baseline(templates.OPERATOR)
        assert interpreted_device.baseline(templates.OPERATOR) is baseline
        assert baseline.plain_name == "torch mm nn"

    def test_what_hangs_holds_up_nobody_else_and_what_is_known_of_it_is_kept(self, interpreted_device: CudaDevice):
        order: list[int] = []
        batch = [templates.candidate(each) for each in (templates.Hangs, templates.LoopsForever, templates.PlainGemm)]
        building, running, good = interpreted_device.measure(batch, lambda position, result: order.append(position))
        assert (building.error, running.error, good.error) == ("timeout", "timeout", None)
        assert not building.details
        assert running.details["registers"] > 0
        assert running.build_seconds > 0
        assert running.measure_seconds == DEADLINE
        if interpreted_device.workers > 1:
            assert order[0] == 0, "the kernel was built and started while the other build hung"

    def test_without_a_vendor_library_the_speedup_is_missing(self):
        with interpreted("NoVendorGpu", workers=1) as device:
            (result,) = device.measure([templates.candidate()])
            assert result.error is None, result.message
            assert result.samples_us
            assert result.speedup is None
            with pytest.raises(UserError, match=r"torch 2.9 has no kernels for sm_60"):
                device.baseline(templates.OPERATOR)
            pids = [*device._shared.runner.pool.pids, *device._shared.builders.pids]
        assert len(pids) == 2
        assert not [pid for pid in pids if psutil.pid_exists(pid)], "closing ends the processes"


class TestSharing:
    def test_devices_with_the_same_settings_share_their_processes(self, interpreted_device: CudaDevice):
        interpreted_device.measure([templates.candidate()])
        before = {child.pid for child in psutil.Process().children()}
        with interpreted() as second:
            second.measure([templates.candidate()])
            assert {child.pid for child in psutil.Process().children()} == before
        assert interpreted_device.measure([templates.candidate()])[0].error is None


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"gpus": []}, r"device.gpus must be a list of different GPU numbers from 0, such as \[0,1\], not \[\]"),
            ({"gpus": [0, 0]}, "different GPU numbers"),
            ({"gpus": [-1]}, "different GPU numbers"),
            ({"gpus": 0}, "different GPU numbers"),
            ({"protocol": "warm"}, "unknown device.protocol 'warm'"),
            ({"deadline": 0}, "device.deadline must be greater than 0"),
            ({"workers": 10_000}, "device.workers must be a whole number from 1"),
        ],
    )
    def test_settings_are_checked(self, settings, words):
        with pytest.raises(UserError, match=words):
            open_device("cuda", **settings)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_host_without_a_gpu_is_a_sentence(self):
        expected = pytest.raises(UserError, match=r"not built for CUDA|no NVIDIA GPU can be used here")
        with open_device("cuda", workers=1) as device, expected:
            device.measure([templates.candidate()])

    def test_an_architecture_that_the_toolchain_has_dropped(self, interpreted_device: CudaDevice, monkeypatch):
        monkeypatch.setattr(interpreted_device._shared, "info", None)
        monkeypatch.setattr(toolchain, "supported", lambda: (75, 80, 90))
        with pytest.raises(UserError, match=r"does not compile for sm_60; install .* nvidia-cuda-nvrtc-cu12==12.9"):
            interpreted_device.measure([templates.candidate()])

    def test_a_driver_older_than_the_toolchain(self, interpreted_device: CudaDevice, monkeypatch):
        monkeypatch.setattr(interpreted_device._shared, "info", None)
        monkeypatch.setattr(toolchain, "version", lambda: "13.0")
        with pytest.raises(UserError, match=r"driver is for CUDA 12.4, too old for kernels of CUDA toolchain 13.0"):
            interpreted_device.measure([templates.candidate()])


def test_builders_answer_with_the_image_that_was_asked_for(monkeypatch):
    monkeypatch.setattr(builder, "limit_memory", lambda extra_bytes: None)
    monkeypatch.setattr(builder.os, "nice", lambda increment: None)
    server, device = builder.BuildServer("ptx", memory_bytes=0), descriptions.describe("p100")
    built = server.serve(builder.BuildCandidate(templates.candidate(tile=4), device))
    assert b".visible .entry main_kernel" in built.program.image
    assert built.program.launches[0].grid == (4, 1, 1)
    assert built.seconds > 0
    built = builder.BuildServer("cubin", memory_bytes=0).serve(builder.BuildCandidate(templates.candidate(), device))
    assert built.program.image.startswith(b"\x7fELF")


class TestRunner:
    """The runner by itself, as where kernels arrive in files."""

    def job(self, template: type[templates.PlainGemm] = templates.PlainGemm) -> Job:
        made = build(templates.candidate(template), descriptions.describe("p100"))
        program = dataclasses.replace(made.program, image=made.ptx.encode())
        return Job(templates.OPERATOR, program, template.tolerance, executed_flops=1e4, build_seconds=1.5)

    def test_jobs_are_answered_in_order_whatever_they_do(self):
        bad = [templates.WritesOutOfBounds, templates.OffByABit]
        jobs = [self.job(), *(self.job(each) for each in bad), *[self.job()] * 4]
        reported: dict[int, Measurement] = {}
        with GpuRunner([0, 2], tf32=True, deadline=DEADLINE, gpu="tests.interpreted_gpu:InterpretedGpu") as runner:
            assert runner.info.model == "Interpreted GPU"
            ceilings = ceilings_of({**runner.info.properties, "fp32_lanes_per_sm": 64})
            results = runner.measure(jobs, ceilings, on_result=reported.__setitem__, repeats=2)
        assert [result.error for result in results] == [None, "crash", "wrong_result"] + [None] * 4
        assert results == [reported[position] for position in range(len(jobs))]
        assert {result.details["gpu"] for result in results} == {0, 2}, "each has a process"
        assert len(results[0].samples_us) == len(results[0].baseline_us) == 2
        assert {result.build_seconds for result in results} == {1.5}
        assert results[0].details["tf32_baseline_us"] > 0
        assert results[0].baseline_name == runner.baseline(templates.OPERATOR).name

    def test_gpus_must_be_alike(self):
        words = r"must be alike.*Interpreted GPU [01] \(sm_60, 2 multiprocessors\) and"
        with GpuRunner([0, 1], gpu="tests.interpreted_gpu:OddOneOut") as runner, pytest.raises(UserError, match=words):
            _ = runner.info

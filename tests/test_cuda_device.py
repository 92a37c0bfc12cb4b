"""The CUDA device whole, on an interpreted GPU and where there is one on a real one: conformance, several GPUs, settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests import gpu_templates as templates
from tests.conformance.device import DeviceConformance
from wpk_envs.core import Candidate, Device, ErrorKind
from wpk_envs.devices.cuda.live import CudaDevice
from wpk_envs.errors import UserError

DEADLINE = 6.0

NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that torch can use"),
]


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
            (templates.Hangs, "timeout", "deadline of 6 s"),
            (templates.LoopsForever, "timeout", "deadline of 6 s"),
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

"""What answers in a GPU's runner process: checks and times kernels, and races the vendor's paths."""

from __future__ import annotations

import dataclasses
from typing import Any

from wpk_envs.core import Measurement
from wpk_envs.devices.cuda.bench import GpuBench
from wpk_envs.devices.cuda.gpu import Gpu, Protocol
from wpk_envs.devices.cuda.jobs import MeasureJob
from wpk_envs.devices.cuda.race import race
from wpk_envs.devices.failures import failure
from wpk_envs.devices.messages import Last, RaceBaselines
from wpk_envs.devices.worker import load
from wpk_envs.errors import UserError


class GpuServer:
    """Holds one GPU for this process.

    Args:
        gpu: The class of `Gpu`, as ``module:Class``; it is called with the index.
        index: The GPU's number.
        protocol: How samples are taken.
        tf32: Whether vendor paths are raced in TF32 as well.

    Raises:
        UserError: If the GPU cannot be used, or not with that protocol.
    """

    def __init__(self, gpu: str, index: int, protocol: Protocol, tf32: bool) -> None:
        import torch

        self._inference_mode = torch.inference_mode
        self._gpu: Gpu = load(gpu)(index)
        self._index, self._protocol, self._tf32 = index, protocol, tf32
        self.info = self._gpu.info
        if protocol not in self._gpu.protocols:
            raise UserError(f"the protocol '{protocol}' needs torch's kernels: {self.info.no_vendor}; or use 'cold'")
        with torch.inference_mode():
            self._bench = GpuBench(self._gpu, protocol)

    def serve(self, request: Any) -> Any:
        """Answer a request; it is the `Last` reply if it has left the GPU unusable for this process."""
        try:
            with self._inference_mode():
                reply = self._answer(request)
        except UserError:
            raise
        except Exception as error:
            reply = failure(error, "crash")
        return Last(reply) if self._gpu.broken() else reply

    def _answer(self, request: Any) -> Any:
        if isinstance(request, RaceBaselines):
            return race(request.operator, self._bench.watch, self._protocol, self._tf32)
        if not isinstance(request, MeasureJob):
            raise TypeError(f"unknown request {request!r}")
        return self._located(self._bench.measure(request))

    def _located(self, measurement: Measurement) -> Measurement:
        where: dict[str, Any] = {"gpu": self._index}
        if self.info.driver:
            where["driver"] = self.info.driver
        return dataclasses.replace(measurement, details={**measurement.details, **where})

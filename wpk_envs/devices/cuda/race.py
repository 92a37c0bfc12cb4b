"""The race of all of cuDNN's and cuBLAS's paths for one operator on a GPU."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from wpk_envs.core import Operator
from wpk_envs.devices.baseline import FINAL_ROUNDS, HEAT_ROUNDS, correct, finalists, ranked
from wpk_envs.devices.cuda.gpu import Protocol
from wpk_envs.devices.cuda.jobs import GpuBaseline
from wpk_envs.devices.cuda.timing import Stopwatch, Timed
from wpk_envs.errors import UserError
from wpk_envs.vendors.path import VendorPath

TF32_TOLERANCE = 1e-2
"""Largest accepted error of products of 11 significant bits."""


def race(operator: Operator, watch: Stopwatch, protocol: Protocol, tf32: bool = False) -> GpuBaseline:
    """Check and time every path (imports torch); use it inside ``torch.inference_mode()``.

    Args:
        operator: What to compute.
        watch: The stopwatch of the GPU.
        protocol: How samples are taken.
        tf32: Whether to race the paths in TF32 as well, for the record.

    Raises:
        UserError: If torch has no kernels for the GPU, or no path for this kind of operator.
        RuntimeError: If no path is correct.
    """
    from wpk_envs.vendors.cudnn import paths

    if watch.gpu.info.no_vendor:
        raise UserError(watch.gpu.info.no_vendor)
    inputs = operator.random_inputs(np.random.default_rng())
    reference = operator.reference(inputs)
    device = watch.gpu.torch_device
    right, dropped = correct(paths(operator, inputs, device), operator, reference)
    baseline = ranked(right, dropped, _latencies(right, watch, protocol))
    if not tf32:
        return GpuBaseline(**asdict(baseline))
    rounded, _ = correct(paths(operator, inputs, device, tf32=True), operator, reference, TF32_TOLERANCE)
    latencies = _latencies(rounded, watch, protocol)
    best = min(latencies, key=latencies.__getitem__)
    return GpuBaseline(**asdict(baseline), tf32_name=best, tf32_latency_us=latencies[best])


def _latencies(paths: Sequence[VendorPath], watch: Stopwatch, protocol: Protocol) -> dict[str, float]:
    """Median latency of every path in microseconds, the fast ones timed more often."""
    timed = {path.name: Timed(watch, path.run) for path in paths}
    heat = watch.interleave(list(timed.values()), protocol, HEAT_ROUNDS)
    medians = {name: statistics.median(samples) for name, samples in zip(timed, heat)}
    names = [path.name for path in finalists(paths, medians)]
    again = watch.interleave([timed[name] for name in names], protocol, FINAL_ROUNDS)
    return medians | {name: statistics.median(samples) for name, samples in zip(names, again)}

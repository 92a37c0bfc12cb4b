"""What plans cost beside their kernels: the overhead of a call, and loading."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wpk_envs import planner
from wpk_envs.core import DeviceInfo
from wpk_envs.planner import operations, passes
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Provider
from wpk_envs.planner.importing import import_model, source_of
from wpk_envs.planner.kernels.provider import KernelProvider
from wpk_envs.planner.planning import Planner
from wpk_envs.planner.program import Program
from wpk_envs.planner.providers import open_providers
from wpk_envs.planner.writing import write

CALLS, WIDTH = 100, 16
ROUNDS, RUNS = 20, 50
PROCESSES = 3
LOADED = "resnet18"
TIMED = ("onednn", "kernels")
"""Providers whose calls are bare; the framework's take what the framework takes."""

_LOAD = """
import sys, time
from wpk_envs import planner
start = time.perf_counter()
planner.load(sys.argv[1])
print(time.perf_counter() - start)
"""


def call_us(device: DeviceInfo, folder: Path) -> dict[str, list[float]]:
    """Microseconds per call of plans of products so small that what they compute hardly counts.

    Args:
        device: What to plan for.
        folder: Where the plans go.

    Returns:
        By provider of all calls, a sample per round.
    """
    offering, _ = open_providers(device, None)
    samples = {}
    for name in TIMED:
        if name in offering:
            _plan(_small_products(), device, folder / name, {name: offering[name]})
            samples[name] = _call_us(planner.load(folder / name).program)
    return samples


def _call_us(program: Program) -> list[float]:
    program.run()
    samples = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(RUNS):
            program.run()
        samples.append(1e6 * (time.perf_counter() - start) / RUNS / CALLS)
    return samples


def load_seconds(device: DeviceInfo, folder: Path) -> dict[str, list[float]]:
    """Seconds that loading the plan of ResNet-18 takes, a sample per new process; the import of the package apart."""
    graph, _ = passes.optimise(import_model(source_of(LOADED)))
    _plan(graph, device, folder, open_providers(device, None)[0])
    command = [sys.executable, "-c", _LOAD, str(folder)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(PROCESSES)]
    return {"processes": [float(run.stdout) for run in runs]}


def _plan(graph: Graph, device: DeviceInfo, folder: Path, offering: Mapping[str, Provider]) -> None:
    import torch

    functions = KernelProvider(device, None).functions
    for provider in offering.values():
        if isinstance(provider, KernelProvider):
            functions = provider.functions
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(graph.tensors[name].shape, np.float32) for name in graph.inputs]
    reference = [each.numpy() for each in operations.run(graph, [torch.from_numpy(each) for each in inputs])]
    planned = Planner(graph, device, offering, functions).plan(inputs, reference)
    write(folder, planned, device, functions)


def _small_products() -> Graph:
    """A chain of products of a row and an orthogonal matrix, so that values keep their size."""
    matrix, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, WIDTH)))
    names = [f"x{number}" for number in range(CALLS + 1)]
    nodes = tuple(
        Node(f"product{number}", "gemm", (names[number], "matrix"), (names[number + 1],)) for number in range(CALLS)
    )
    tensors = {**dict.fromkeys(names, Tensor((1, WIDTH))), "matrix": Tensor((WIDTH, WIDTH))}
    constants = {"matrix": np.ascontiguousarray(matrix, np.float32)}
    return Graph("products", (names[0],), (names[-1],), nodes, tensors, constants)

"""The providers of implementations: who offers, and who binds what a plan holds."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from wpk_envs.core import DeviceInfo
from wpk_envs.devices.cuda.gpu import Gpu
from wpk_envs.errors import UserError, unknown
from wpk_envs.planner.implementation import Call, Provider
from wpk_envs.records import Store

BINDERS = {
    "cuda_kernels": "wpk_envs.planner.cuda.functions",
    "kernels": "wpk_envs.planner.kernels.compiled",
    "onednn": "wpk_envs.planner.onednn.provider",
    "torch": "wpk_envs.planner.torch_provider",
    "torch_cuda": "wpk_envs.planner.cuda.torch_steps",
    "tvm": "wpk_envs.planner.kernels.compiled",
}
"""Modules with a function ``bind`` by provider; each is imported when a plan first needs it."""

COMPILED = ("kernels", "tvm", "cuda_kernels")
"""Providers whose calls are functions of the plan's library of kernels."""


def binder(name: str) -> Callable[..., Call]:
    """The function that binds a provider's calls.

    Raises:
        UserError: For a provider that this version does not have.
    """
    if name not in BINDERS:
        raise unknown("provider of implementations", name, BINDERS)
    return importlib.import_module(BINDERS[name]).bind


def open_providers(
    device: DeviceInfo, store: Store | None, gpu: Gpu | None = None
) -> tuple[dict[str, Provider], dict[str, str]]:
    """Everyone who can offer something on a device, and why others cannot, in sentences.

    Args:
        device: What plans are made for.
        store: Where tuned kernels are found.
        gpu: The device, if it is a GPU.

    Raises:
        UserError: For a GPU that torch has no kernels for.
    """
    everyone = _for_cpu(device, store) if gpu is None else _for_gpu(device, store, gpu)
    reasons = {name: provider.unavailable() for name, provider in everyone.items()}
    able = {name: provider for name, provider in everyone.items() if not reasons[name]}
    return able, {name: reason for name, reason in reasons.items() if reason}


def functions_of(offering: Mapping[str, Provider]) -> Any:
    """Where the kernels of a device's providers are compiled."""
    from wpk_envs.planner.kernels.provider import KernelProvider

    return next(provider.functions for provider in offering.values() if isinstance(provider, KernelProvider))


def _for_cpu(device: DeviceInfo, store: Store | None) -> dict[str, Provider]:
    from wpk_envs.planner.kernels.compiled import CompiledFunctions
    from wpk_envs.planner.kernels.provider import KernelProvider
    from wpk_envs.planner.tvm_default.provider import TvmDefault

    functions = CompiledFunctions(device)
    modules: dict[str, Any] = {name: importlib.import_module(BINDERS[name]) for name in ("onednn", "torch")}
    return {
        "kernels": KernelProvider(device, store, functions),
        **modules,
        "tvm": TvmDefault(functions),
    }


def _for_gpu(device: DeviceInfo, store: Store | None, gpu: Gpu) -> dict[str, Provider]:
    from wpk_envs.planner.cuda.functions import CudaFunctions
    from wpk_envs.planner.cuda.kernels import CudaKernelProvider

    if gpu.info.no_vendor:
        raise UserError(f"a plan for {gpu.info.model} needs torch's kernels for it: {gpu.info.no_vendor}")
    steps: Any = importlib.import_module(BINDERS["torch_cuda"])
    return {"cuda_kernels": CudaKernelProvider(device, store, CudaFunctions(device, gpu)), "torch_cuda": steps}

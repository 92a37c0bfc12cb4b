"""The providers of implementations: who offers, and who binds what a plan holds."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from wpk_envs.core import DeviceInfo
from wpk_envs.errors import unknown
from wpk_envs.planner.implementation import Call, Provider
from wpk_envs.records import Store

BINDERS = {
    "kernels": "wpk_envs.planner.kernels.compiled",
    "onednn": "wpk_envs.planner.onednn.provider",
    "torch": "wpk_envs.planner.torch_provider",
    "tvm": "wpk_envs.planner.kernels.compiled",
}
"""Modules with a function ``bind`` by provider; each is imported when a plan first needs it."""

COMPILED = ("kernels", "tvm")
"""Providers whose calls are functions of the plan's library of kernels."""


def binder(name: str) -> Callable[..., Call]:
    """The function that binds a provider's calls.

    Raises:
        UserError: For a provider that this version does not have.
    """
    if name not in BINDERS:
        raise unknown("provider of implementations", name, BINDERS)
    return importlib.import_module(BINDERS[name]).bind


def open_providers(device: DeviceInfo, store: Store | None) -> tuple[dict[str, Provider], dict[str, str]]:
    """Everyone who can offer something on a device, and why others cannot, in sentences.

    Args:
        device: What plans are made for.
        store: Where tuned kernels are found.
    """
    from wpk_envs.planner.kernels.compiled import CompiledFunctions
    from wpk_envs.planner.kernels.provider import KernelProvider
    from wpk_envs.planner.tvm_default.provider import TvmDefault

    functions = CompiledFunctions(device)
    modules: dict[str, Any] = {name: importlib.import_module(BINDERS[name]) for name in ("onednn", "torch")}
    everyone: dict[str, Provider] = {
        "kernels": KernelProvider(device, store, functions),
        **modules,
        "tvm": TvmDefault(functions),
    }
    reasons = {name: provider.unavailable() for name, provider in everyone.items()}
    able = {name: provider for name, provider in everyone.items() if not reasons[name]}
    return able, {name: reason for name, reason in reasons.items() if reason}

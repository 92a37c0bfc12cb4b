"""What a plan was made for, and whether this is it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from wpk_envs.devices.host import X86_FEATURES, available_cores, cpu_flags, model_name
from wpk_envs.errors import UserError

PACKAGES = {
    "kernels": ("apache-tvm", "apache-tvm-ffi"),
    "onednn": ("onednn-cpu-gomp",),
    "onnx": ("onnx", "onnxruntime"),
    "torch": ("torch",),
    "tvm": ("apache-tvm", "apache-tvm-ffi"),
}
"""Distributions whose code runs in a plan, by who computes its steps."""


def computing(steps: Sequence[Mapping[str, Any]]) -> set[str]:
    """Who computes the steps of a plan: their providers, and ONNX Runtime what no provider knows."""
    attributes = [step["settings"].get("attributes", {}) for step in steps]
    return {step["provider"] for step in steps} | {"onnx" for each in attributes if each.get("framework") == "onnx"}


def validator(by: Collection[str], threads: int) -> dict[str, Any]:
    """This host and its versions, as far as a plan whose steps are computed by these depends on them."""
    flags = cpu_flags()
    packages = sorted({package for each in by for package in PACKAGES[each]})
    return {
        "machine": platform.machine(),
        "cpu": model_name(),
        "instruction_sets": [feature for feature in X86_FEATURES if feature in flags],
        "threads": threads,
        "versions": {package: _version(package) for package in packages},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def check(made_for: Mapping[str, Any], by: Collection[str], where: str) -> None:
    """Refuse a plan that was made for something else.

    Args:
        made_for: The plan's header.
        by: Who computes its steps.
        where: The plan, for the error.

    Raises:
        UserError: In a sentence that says what differs.
    """
    here = validator(by, int(made_for["threads"]))
    differences = [
        f"{_WORDS[name]} was {_text(made_for.get(name))} and is {_text(here[name])}"
        for name in _WORDS
        if made_for.get(name) != here[name]
    ]
    if here["threads"] > available_cores():
        differences.append(f"it wants {here['threads']} threads and there are {available_cores()} cores")
    if differences:
        raise UserError(
            f"the plan {where} was made for another machine or version: {'; '.join(differences)}; plan again here"
        )


_WORDS = {
    "machine": "the machine",
    "cpu": "the CPU",
    "instruction_sets": "its instruction set",
    "versions": "the software",
}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items()) or "none"
    return " ".join(value) if isinstance(value, list) else repr(value)

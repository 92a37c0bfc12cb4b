"""What a plan was made for, and whether this is it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
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
    found = differences(_WORDS, made_for, here, _text)
    if here["threads"] > available_cores():
        found.append(f"it wants {here['threads']} threads and there are {available_cores()} cores")
    if found:
        raise UserError(
            f"the plan {where} was made for another machine or version: {'; '.join(found)}; plan again here"
        )


def differences(
    words: Mapping[str, str], made_for: Mapping[str, Any], here: Mapping[str, Any], text: Callable[[Any], str]
) -> list[str]:
    """What a plan was made for and is not here, a clause for each.

    Args:
        words: What is compared, and what it is called.
        made_for: The plan's header.
        here: The same of this machine.
        text: Says a value.
    """
    return [
        f"{called} was {text(made_for.get(name))} and is {text(here[name])}"
        for name, called in words.items()
        if made_for.get(name) != here[name]
    ]


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

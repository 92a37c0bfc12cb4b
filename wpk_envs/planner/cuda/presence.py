"""The GPU that plans of this process run on, and whether a plan was made for it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from wpk_envs.devices.cuda.gpu import Gpu, GpuInfo
from wpk_envs.errors import UserError
from wpk_envs.planner.validator import differences


def open_gpu(index: int | None = None) -> Gpu:
    """A GPU of this host, in this process for good.

    Args:
        index: Its number; torch's current one if none.

    Raises:
        UserError: If it cannot be used.
    """
    import torch

    if index is None:
        index = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
    return _opened(index)


@functools.cache
def _opened(index: int) -> Gpu:
    from wpk_envs.devices.cuda.torch_gpu import TorchGpu

    return TorchGpu(index)


def made_for(gpu: GpuInfo) -> dict[str, Any]:
    """A GPU and its versions, as far as a plan depends on them."""
    return {
        "kind": "cuda",
        "gpu": gpu.model,
        "arch": gpu.arch,
        "driver": gpu.driver,
        "threads": 1,
        "versions": dict(gpu.versions),
    }


def check(header: Mapping[str, Any], gpu: GpuInfo, where: str) -> None:
    """Refuse a plan that was made for something else.

    The driver's release is compared where it is known of both; the CUDA version that it is for always is.

    Args:
        header: What `made_for` gave for the GPU that the plan was made for.
        gpu: The GPU here.
        where: The plan, for the error.

    Raises:
        UserError: In a sentence that says what differs.
    """
    here = made_for(gpu)
    known = {name: words for name, words in _WORDS.items() if name != "driver" or (header.get(name) and here[name])}
    found = differences(known, header, here, _text)
    if found:
        raise UserError(f"the plan {where} was made for another GPU or version: {'; '.join(found)}; plan again here")


_WORDS = {
    "gpu": "the GPU",
    "arch": "its architecture",
    "driver": "the driver",
    "versions": "the software",
}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{'CUDA' if name == 'driver' else name} {version}" for name, version in value.items())
    return repr(value)

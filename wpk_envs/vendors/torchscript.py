"""TorchScript, torch's older way to fuse a module for inference: it is deprecated but a path all the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""The first calls profile and optimise."""


def frozen(module: torch.nn.Module, *inputs: Tensor) -> Callable[..., Tensor]:
    """Trace a module on inputs, freeze it and optimise it for inference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled = torch.jit.optimize_for_inference(torch.jit.trace(module.eval(), inputs, check_trace=False))
    for _ in range(WARM_UP):
        compiled(*inputs)
    return compiled

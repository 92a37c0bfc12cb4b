"""Every cuDNN and cuBLAS path that torch reaches on a GPU, for convolutions and matrix products.

The fastest of them is the baseline that a tuned kernel must beat. Activations lie in the layout that the path
likes and weights are laid out ahead of the call, as for the tuned kernels; every path computes the whole
operator, its epilogue fused where the library can and applied in place where it cannot. cuDNN searches all of its
algorithms when a path is bound.

On the device "cpu" the plain paths run too: their arithmetic is the same.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from wpk_envs.core import Operator
from wpk_envs.errors import UserError
from wpk_envs.vendors.path import VendorPath

logger = logging.getLogger(__name__)

Offer = tuple[str, Callable[[], VendorPath]]
"""A path's name, and what binds it to inputs. Binding or running it fails where this torch lacks the path."""

MISSING = (RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError, IndexError)
"""What torch raises for operators, layouts and fusions that it was not built with."""


def paths(
    operator: Operator,
    inputs: Mapping[str, np.ndarray],
    device: str,
    tf32: bool = False,
    only: str | None = None,
) -> list[VendorPath]:
    """Bind every path that this torch has for an operator on a device. The first is always plain torch.

    Time and run them inside ``torch.inference_mode()``, which spares every call torch's autograd.

    Args:
        operator: A `Conv2d` or `Gemm`.
        inputs: Arrays by name, as `Operator.random_inputs` draws them; they are copied.
        device: As torch names it, such as ``"cuda:0"``.
        tf32: Whether products may be rounded to TF32's 11 significant bits. Without it everything is float32,
            whatever torch's own switches say when a path runs.
        only: Bind just the path of this name.

    Raises:
        UserError: If no library path computes this kind of operator.
        RuntimeError: If the GPU has not enough memory, or is broken.
    """
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = 0  # all algorithms
    bound = []
    with torch.inference_mode():
        for name, bind in offers(operator, inputs, device):
            if only in (None, name):
                try:
                    with _precision(tf32):
                        path = bind()
                        path.run()
                        _finish(device)
                except MISSING as error:
                    raise_if_fatal(error, device)
                    logger.debug("torch has no path '%s' for %s: %s", name, operator.label, error)
                else:
                    bound.append(dataclasses.replace(path, run=_in_precision(path.run, tf32)))
    return bound


def offers(operator: Operator, inputs: Mapping[str, np.ndarray], device: str) -> Iterator[Offer]:
    """Name every path that may exist, plain torch first."""
    import torch

    tensors = {name: torch.from_numpy(np.array(array)).to(device) for name, array in inputs.items()}
    if operator.kind == "conv2d":
        from wpk_envs.vendors.cudnn_conv import conv_offers

        return conv_offers(operator, tensors)
    if operator.kind == "gemm":
        from wpk_envs.vendors.cublas import gemm_offers

        return gemm_offers(operator, tensors)
    raise UserError(f"cuDNN and cuBLAS have no path for {operator.kind} operators (they have: conv2d, gemm)")


@contextmanager
def _precision(tf32: bool) -> Iterator[None]:
    """Let products be rounded to TF32, or not."""
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32, matmul.allow_tf32 = tf32, tf32
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def _in_precision(run: Callable[[], Any], tf32: bool) -> Callable[[], Any]:
    def precise() -> Any:
        with _precision(tf32):
            return run()

    return precise


def _finish(device: str) -> None:
    """Wait for the GPU, so that an error is raised here."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize(device)


def raise_if_fatal(error: Exception, device: str) -> None:
    """Raise errors that say nothing of the path: no memory, or a GPU that is broken."""
    if "out of memory" in str(error).lower():
        raise error
    _finish(device)

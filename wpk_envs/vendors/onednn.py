"""Every oneDNN and MKL path that torch reaches on a CPU, for convolutions and matrix products.

The fastest of them is the baseline that a tuned kernel must beat. Weights are packed ahead of the call and
activations lie in the layout that the path likes, as for the tuned kernels; every path computes the whole
operator, its epilogue fused where the library can and applied in place where it cannot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
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
    operator: Operator, inputs: Mapping[str, np.ndarray], threads: int = 1, only: str | None = None
) -> list[VendorPath]:
    """Bind every path that this torch has for an operator. The first is always plain torch.

    Time and run them inside ``torch.inference_mode()``, which spares every call torch's autograd.

    Args:
        operator: A `Conv2d` or `Gemm`.
        inputs: Arrays by name, as `Operator.random_inputs` draws them; they are copied.
        threads: Threads of torch in this process.
        only: Bind just the path of this name.

    Raises:
        UserError: If no library path computes this kind of operator.
    """
    import torch

    torch.set_num_threads(threads)
    bound = []
    with torch.inference_mode():
        for name, bind in offers(operator, inputs):
            if only in (None, name):
                try:
                    path = bind()
                    path.run()
                except MISSING as error:
                    logger.debug("torch has no path '%s' for %s: %s", name, operator.label, error)
                else:
                    bound.append(path)
    return bound


def offers(operator: Operator, inputs: Mapping[str, np.ndarray]) -> Iterator[Offer]:
    """Name every path that may exist, plain torch first."""
    import torch

    tensors: dict[str, Any] = {name: torch.from_numpy(np.array(array)) for name, array in inputs.items()}
    if operator.kind == "conv2d":
        from wpk_envs.vendors.onednn_conv import conv_offers

        return conv_offers(operator, tensors)
    if operator.kind == "gemm":
        from wpk_envs.vendors.onednn_gemm import gemm_offers

        return gemm_offers(operator, tensors)
    raise UserError(f"oneDNN has no path for {operator.kind} operators (it has: conv2d, gemm)")

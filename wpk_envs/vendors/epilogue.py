"""The fused epilogue (residual, activation) in torch's words; the bias goes into each library call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import hardtanh_


@dataclass(frozen=True)
class Epilogue:
    """What follows the product and its bias: add the residual, then the activation.

    Attributes:
        activation: ``"none"``, ``"relu"`` or ``"relu6"``.
        residual: A tensor of the output's shape, in the path's own layout; none without one.
    """

    activation: str
    residual: Tensor | None = None

    @property
    def trivial(self) -> bool:
        """Whether nothing follows the product."""
        return self.residual is None and self.activation == "none"

    @property
    def fused_unary(self) -> tuple[str, list[Any], str]:
        """The activation as oneDNN's fused operators take it: name, scalars, algorithm."""
        return {"none": ("none", [], ""), "relu": ("relu", [], ""), "relu6": ("hardtanh", [0.0, 6.0], "")}[
            self.activation
        ]

    def finish(self, product: Tensor) -> Tensor:
        """Apply residual and activation in place."""
        if self.residual is not None:
            product.add_(self.residual)
        return self.activate(product)

    def activate(self, product: Tensor) -> Tensor:
        """Apply the activation in place."""
        if self.activation == "relu":
            return product.relu_()
        return hardtanh_(product, 0.0, 6.0) if self.activation == "relu6" else product

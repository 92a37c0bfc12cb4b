"""General matrix product, batched too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wpk_envs.operators.checks import whole_number
from wpk_envs.operators.fused import Extents, FusedOperator


@dataclass(frozen=True)
class Gemm(FusedOperator):
    """A matrix product a @ b with an optional fused epilogue.

    Inputs are ``a`` [batch, m, k] and ``b`` [batch, k, n] (the weights: they may be packed ahead of the
    call), with ``bias`` [n] and ``residual`` (the output's shape) if asked for. The output is
    [batch, m, n].

    Args:
        m: Rows of the output.
        n: Columns of the output.
        k: Length of the reduction.
        batch: Independent products.

    Raises:
        UserError: For shapes that cannot exist.
    """

    kind: ClassVar[str] = "gemm"
    weight_name: ClassVar[str] = "b"

    m: int
    n: int
    k: int
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("m", "n", "k", "batch"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        super().__post_init__()

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[batch, m, n]."""
        return self.batch, self.m, self.n

    @property
    def product_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of ``a`` and ``b``."""
        return {"a": (self.batch, self.m, self.k), "b": (self.batch, self.k, self.n)}

    @property
    def reduction(self) -> int:
        """Multiply-adds per output element: k."""
        return self.k

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """[n]."""
        return (self.n,)

    @property
    def extents(self) -> Extents:
        """The sizes that features are made of."""
        return Extents(batch=self.batch, out_height=self.m, out_width=1, channels=self.k, filters=self.n)

    @property
    def label(self) -> str:
        """Such as ``gemm 128x3072x768 +bias`` (m, n, k)."""
        batch = f" batch {self.batch}" if self.batch > 1 else ""
        return f"gemm {self.m}x{self.n}x{self.k}{batch}{self.epilogue_label}"

    def product(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The float64 product without its epilogue."""
        return np.matmul(np.asarray(inputs["a"], dtype=np.float64), np.asarray(inputs["b"], dtype=np.float64))

"""cuBLAS paths for matrix products: layouts of both factors, fused epilogues, both libraries, vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wpk_envs.vendors.cases import Build, MatrixProduct
from wpk_envs.vendors.epilogue import Epilogue
from wpk_envs.vendors.path import VendorPath


class CublasProduct(MatrixProduct):
    """One matrix product, and the calls of cuBLAS and cuBLASLt for it."""

    def rows(self, transposed: bool = False) -> Callable[[], Tensor]:
        """The rows at call time; ``transposed``: their columns lie together in memory."""
        if self.gather is not None:
            if transposed:
                raise NotImplementedError("gathered rows lie together")
            return self.gather
        a = _transposed(self.a) if transposed else self.a
        return lambda: a

    def mm(self, transposed_a: bool = False, transposed_b: bool = False) -> Callable[[], Tensor]:
        """The product onto the bias, its factors laid out in one of four ways."""
        rows, b = self.rows(transposed_a), _transposed(self.b) if transposed_b else self.b
        bias, finish = self.bias, self.epilogue.finish
        if bias is None:
            return lambda: finish(torch.mm(rows(), b))
        return lambda: finish(torch.addmm(bias, rows(), b))

    def light(self, transposed_b: bool = False) -> Callable[[], Tensor]:
        """Bias and ReLU inside cuBLASLt's call."""
        rows, b, bias = self.rows(), _transposed(self.b) if transposed_b else self.b, self.bias
        if bias is None or self.epilogue.activation != "relu" or self.epilogue.residual is not None:
            raise NotImplementedError("cuBLASLt fuses a bias and a ReLU")
        return lambda: torch._addmm_activation(bias, rows(), b)


def matrix_offers(product: CublasProduct) -> Iterator[tuple[str, Build]]:
    """Name every path for one matrix product, plain torch first."""
    for library in (None, "cublas", "cublaslt"):
        for name, a, b in (("nn", False, False), ("nt", False, True), ("tn", True, False), ("tt", True, True)):
            build = _Offer(product, library, a, b)
            yield f"torch mm {name}" if library is None else f"{library} mm {name}", build
    yield "cublaslt fused nn", product.light
    yield "cublaslt fused nt", lambda: product.light(transposed_b=True)
    yield "cublas mv", lambda: product.matrix_vector(transposed=False)
    yield "cublas mv transposed", lambda: product.matrix_vector(transposed=True)
    yield "torch addmm onto residual", product.onto_residual


@dataclass(frozen=True)
class _Offer:
    """A product with its factors laid out one way, by the library that torch chooses or by a given one."""

    product: CublasProduct
    library: str | None
    transposed_a: bool
    transposed_b: bool

    def __call__(self) -> Callable[[], Tensor]:
        run = self.product.mm(self.transposed_a, self.transposed_b)
        if self.library is None:
            return run
        if self.product.a.device.type != "cuda":
            raise NotImplementedError(f"{self.library} needs a GPU")
        return _with_library(run, self.library)


def gemm_offers(operator: Any, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Callable[[], VendorPath]]]:
    """Name every path for a `Gemm`, plain torch first.

    Args:
        operator: The `Gemm`.
        tensors: Its inputs by name, on the device.
    """
    epilogue = Epilogue(operator.activation, tensors.get("residual"))
    if operator.batch > 1:
        for name, build in _batched(tensors["a"], tensors["b"], tensors.get("bias"), epilogue):
            yield name, lambda name=name, build=build: VendorPath(name, build(), _array)  # type: ignore[misc]
        return
    residual = None if epilogue.residual is None else epilogue.residual[0]
    product = CublasProduct(
        tensors["a"][0], tensors["b"][0], tensors.get("bias"), Epilogue(operator.activation, residual)
    )
    for name, build in matrix_offers(product):
        yield name, lambda name=name, build=build: VendorPath(name, build(), _stacked)  # type: ignore[misc]


def _batched(a: Tensor, b: Tensor, bias: Tensor | None, epilogue: Epilogue) -> Iterator[tuple[str, Build]]:
    """Products of a whole batch in one call, the factors laid out in one of four ways."""
    for name, left, right in (("nn", a, b), ("nt", a, None), ("tn", None, b), ("tt", None, None)):

        def build(left: Tensor | None = left, right: Tensor | None = right) -> Callable[[], Tensor]:
            rows = _transposed(a) if left is None else left
            columns = _transposed(b) if right is None else right
            if bias is None:
                return lambda: epilogue.finish(torch.bmm(rows, columns))
            return lambda: epilogue.finish(torch.baddbmm(bias, rows, columns))

        yield f"torch bmm {name}", build


def _with_library(run: Callable[[], Tensor], library: str) -> Callable[[], Tensor]:
    """A call for which torch prefers one of its two BLAS libraries."""
    prefer = torch.backends.cuda.preferred_blas_library

    def preferred() -> Tensor:
        before = prefer()
        prefer(library)
        try:
            return run()
        finally:
            prefer(before)

    return preferred


def _transposed(matrix: Tensor) -> Tensor:
    """The same matrix, its columns lying together in memory."""
    return matrix.transpose(-1, -2).contiguous().transpose(-1, -2)


def _array(out: Tensor) -> np.ndarray:
    return out.cpu().numpy()


def _stacked(out: Tensor) -> np.ndarray:
    return out.cpu().numpy()[None]

"""oneDNN and MKL paths for matrix products: plain, packed weights, fusions, and matrix-vector calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from wpk_envs.vendors.cases import Build, MatrixProduct
from wpk_envs.vendors.epilogue import Epilogue
from wpk_envs.vendors.path import VendorPath
from wpk_envs.vendors.torchscript import frozen


class OnednnProduct(MatrixProduct):
    """One matrix product, and the calls of oneDNN, MKL and TorchScript for it."""

    def mm(self) -> Callable[[], Tensor]:
        """What a user of torch writes."""
        rows, b, bias, finish = self.rows(), self.b, self.bias, self.epilogue.finish
        if bias is None:
            return lambda: finish(torch.mm(rows(), b))
        return lambda: finish(torch.addmm(bias, rows(), b))

    def linear(self) -> Callable[[], Tensor]:
        """Weights transposed, as torch's linear layer holds them."""
        rows, weight, bias, finish = self.rows(), self.b.t().contiguous(), self.bias, self.epilogue.finish
        return lambda: finish(linear(rows(), weight, bias))

    def prepacked(self) -> Callable[[], Tensor]:
        """OneDNN with packed weights; the epilogue in place after it."""
        rows, weight, bias, finish = self.rows(), self._packed_weight(), self.bias, self.epilogue.finish
        call = torch.ops.mkldnn._linear_pointwise.default
        return lambda: finish(call(rows(), weight, bias, "none", [], ""))

    def prepacked_fused(self) -> Callable[[], Tensor]:
        """OneDNN with packed weights, with as much of the epilogue inside the call as it fuses."""
        rows, weight, bias, epilogue = self.rows(), self._packed_weight(), self.bias, self.epilogue
        if epilogue.residual is None:
            call, unary = torch.ops.mkldnn._linear_pointwise.default, epilogue.fused_unary
            return lambda: call(rows(), weight, bias, *unary)
        binary, residual, activate = torch.ops.mkldnn._linear_pointwise.binary, epilogue.residual, epilogue.activate
        return lambda: activate(binary(rows(), residual, weight, bias, "add"))

    def _packed_weight(self) -> Tensor:
        return torch.ops.mkldnn._reorder_linear_weight(self.b.t().contiguous(), self.a.shape[0])

    def mkl_packed(self) -> Callable[[], Tensor]:
        """MKL with packed weights."""
        rows, bias, finish, m = self.rows(), self.bias, self.epilogue.finish, self.a.shape[0]
        weight = self.b.t().contiguous()
        packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, m)
        call = torch.ops.mkl._mkl_linear.default
        return lambda: finish(call(rows(), packed, weight, bias, m))

    def opaque(self) -> Callable[[], Tensor]:
        """OneDNN's own tensors in and out."""
        if self.gather is not None:
            raise NotImplementedError("oneDNN's own tensors cannot be gathered")
        a, weight = self.a.to_mkldnn(), self.b.t().contiguous().to_mkldnn()
        bias = None if self.bias is None else self.bias.to_mkldnn()
        residual = self.epilogue.residual
        finish = Epilogue(self.epilogue.activation, None if residual is None else residual.to_mkldnn()).finish
        call = torch.ops.aten.mkldnn_linear.default
        return lambda: finish(call(a, weight, bias))

    def jit(self) -> Callable[[], Tensor]:
        """TorchScript, frozen and optimised for inference."""
        if self.gather is not None:
            raise NotImplementedError("gathered rows are not traced")
        with torch.inference_mode(False), torch.no_grad():
            module = torch.nn.Linear(self.b.shape[0], self.b.shape[1], bias=self.bias is not None)
            module.weight.copy_(self.b.t())
            if self.bias is not None:
                module.bias.copy_(self.bias)
            a = self.a.clone()
            compiled = frozen(module, a)
        finish = self.epilogue.finish
        return lambda: finish(compiled(a))


def matrix_offers(product: OnednnProduct) -> Iterator[tuple[str, Build]]:
    """Name every path for one matrix product, plain torch first."""
    yield "torch mm", product.mm
    yield "torch linear", product.linear
    yield "onednn prepacked linear", product.prepacked
    yield "mkl packed linear", product.mkl_packed
    yield "onednn opaque linear", product.opaque
    yield "torch jit linear", product.jit
    yield "mkl mv", lambda: product.matrix_vector(transposed=False)
    yield "mkl mv transposed", lambda: product.matrix_vector(transposed=True)
    if not product.epilogue.trivial:
        yield "onednn prepacked linear fused", product.prepacked_fused
        yield "torch addmm onto residual", product.onto_residual


def gemm_offers(operator: Any, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Callable[[], VendorPath]]]:
    """Name every path for a `Gemm`, plain torch first.

    Args:
        operator: The `Gemm`.
        tensors: Its inputs by name.
    """
    products = [
        OnednnProduct(a, b, tensors.get("bias"), Epilogue(operator.activation, residual))
        for a, b, residual in zip(tensors["a"], tensors["b"], tensors.get("residual", [None] * operator.batch))
    ]
    if operator.batch == 1:
        for name, build in matrix_offers(products[0]):
            yield name, lambda name=name, build=build: VendorPath(name, build(), _stacked)  # type: ignore[misc]
        return
    yield "torch bmm", lambda: VendorPath("torch bmm", _batched(operator, tensors), _array)
    per_product = zip(*(matrix_offers(product) for product in products))
    for offer in per_product:
        name = f"{offer[0][0]}, one by one"
        builds = [build for _, build in offer]
        yield name, lambda name=name, builds=builds: VendorPath(name, _one_by_one(builds), _stacked)  # type: ignore[misc]


def _batched(operator: Any, tensors: Mapping[str, Tensor]) -> Callable[[], Tensor]:
    a, b, bias = tensors["a"], tensors["b"], tensors.get("bias")
    finish = Epilogue(operator.activation, tensors.get("residual")).finish
    if bias is None:
        return lambda: finish(torch.bmm(a, b))
    return lambda: finish(torch.baddbmm(bias, a, b))


def _one_by_one(builds: list[Build]) -> Callable[[], list[Tensor]]:
    runs = [build() for build in builds]
    return lambda: [run() for run in runs]


def _array(out: Tensor) -> np.ndarray:
    return (out.to_dense() if out.is_mkldnn else out).numpy()


def _stacked(out: Tensor | list[Tensor]) -> np.ndarray:
    return np.stack([_array(one) for one in out] if isinstance(out, list) else [_array(out)])

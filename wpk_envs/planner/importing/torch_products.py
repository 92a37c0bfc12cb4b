"""Counterparts of ATen's matrix products and attention."""

from __future__ import annotations

import math

from wpk_envs.planner.importing.products import product
from wpk_envs.planner.importing.torch_call import Call


def _linear(call: Call) -> str | None:
    """Weights [n, k]."""
    if len(call.shape) < 2 or not call.fixed("weight", "bias") or len(call.shape_of("weight")) != 2:
        return None
    inputs = [call["input"].name, call.builder.transposed(call["weight"].name)]
    return _gemm(call, inputs, call["bias"].name if call["bias"] is not None else None)


def _gemm(call: Call, inputs: list[str], bias: str | None = None) -> str:
    inputs = inputs if bias is None else [*inputs, bias]
    return call.add("gemm", inputs, bias=bias is not None, residual=False, activation="none")


def _matmul(call: Call) -> str | None:
    other = call["mat2"] or call["other"]
    return product(call.builder, call.name, call["self"].name, other.name, call.shape)


def _addmm(call: Call) -> str | None:
    """``self`` is the bias."""
    plain = call["beta"] == 1 and call["alpha"] == 1 and call.fixed("self", "mat2")
    if not plain or call.shape_of("self") != call.shape[-1:]:
        return None
    return _gemm(call, [call["mat1"].name, call["mat2"].name], call["self"].name)


def _attention(call: Call) -> str | None:
    """Scaled dot-product attention over [..., tokens, width]."""
    query, key, value = (call.shape_of(name) for name in ("query", "key", "value"))
    special = call["attn_mask"] is not None or call["dropout_p"] or call["is_causal"]
    if special or query[:-2] != key[:-2] or query[:-2] != value[:-2] or len(query) < 2:
        return None
    if any(call.constant(name) is not None for name in ("query", "key", "value")):
        return None
    rank = len(query)
    scale = 1 / math.sqrt(query[-1]) if call["scale"] is None else float(call["scale"])
    shape = (*query[:-1], key[-2])
    swap = (*range(rank - 2), rank - 1, rank - 2)
    attributes = {"b_axes": swap, "scale": scale}
    add, name = call.builder.add, call.name
    scores = add("matmul", [call["query"].name, call["key"].name], shape, f"{name}.scores", attributes)
    weights = add("softmax", [scores], shape, f"{name}.softmax", {"axis": rank - 1})
    return call.add("matmul", [weights, call["value"].name])


RULES = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "addmm": _addmm,
    "scaled_dot_product_attention": _attention,
}
"""The rule for each product, by the name that its overloads share."""

"""Matrix products of both frameworks: a constant on the right makes a ``gemm``, two activations a ``matmul``."""

from __future__ import annotations

from wpk_envs.planner.importing.builder import Builder


def product(builder: Builder, name: str, a: str, b: str, shape: tuple[int, ...]) -> str | None:
    """Write ``a @ b``.

    Args:
        builder: Where to.
        name: Of the node.
        a: Name of the left operand, [..., m, k].
        b: Name of the right operand, [..., k, n].
        shape: Of the product.

    Returns:
        The product's name; none for operands that only the framework can multiply: vectors, a constant on the left,
        batches that differ.
    """
    left, right = builder.tensors[a].shape, builder.tensors[b].shape
    if len(left) < 2 or a in builder.constants:
        return None
    if b in builder.constants:
        attributes = {"bias": False, "residual": False, "activation": "none"}
        return builder.add("gemm", [a, b], shape, name, attributes) if len(right) == 2 else None
    return builder.add("matmul", [a, b], shape, name) if left[:-2] == right[:-2] and len(right) >= 2 else None

"""Recognition of activations that are written out as several operations, as exports to ONNX have them."""

from __future__ import annotations

import math

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.affine import constant_factor, constant_term
from wpk_envs.planner.passes.draft import Draft, sweep

GATED = {"sigmoid": "silu", "hardsigmoid": "hardswish"}
"""What x times a function of x is called."""


def recognise_activations(graph: Graph) -> Graph:
    """Make one operation of a GELU, SiLU or hard swish that is written out as several."""
    return sweep(graph, _recognise)


def _recognise(draft: Draft, node: Node) -> bool:
    if not _is_product(draft, node):
        return False
    scale, factors = _factors(draft, node)
    if len(factors) != 2 or len({draft.tensors[name] for name in (*factors, node.output)}) > 1:
        return False
    for x, gate in (factors, factors[::-1]):
        function = _function(draft, scale, x, gate)
        if function is not None:
            draft.put(Node(node.name, "unary", (x,), node.outputs, {"function": function}), node)
            return True
    return False


def _is_product(draft: Draft, node: Node) -> bool:
    if node.op != "binary":
        return False
    found = constant_factor(draft, node)
    return node.attributes["function"] == "mul" or (found is not None and found[1].size == 1)


def _factors(draft: Draft, node: Node) -> tuple[float, list[str]]:
    """A product of products as a number and the other factors; what several read is a factor."""
    scale, factors, products = 1.0, [], [node]
    while products:
        product = products.pop()
        found = constant_factor(draft, product)
        operands = product.inputs
        if found is not None and found[1].size == 1:
            scale *= found[1].item()
            operands = (found[0],)
        for name in operands:
            maker = draft.sole_maker(name, "binary")
            if maker is not None and _is_product(draft, maker):
                products.append(maker)
            else:
                factors.append(name)
    return scale, factors


def _function(draft: Draft, scale: float, x: str, gate: str) -> str | None:
    """The activation that ``scale * x * gate`` is, if it is one; GELU is x / 2 * (1 + erf(x / sqrt 2))."""
    unary = draft.maker(gate, "unary")
    if unary is not None and unary.inputs == (x,) and math.isclose(scale, 1.0):
        return GATED.get(unary.attributes["function"])
    return "gelu" if math.isclose(scale, 0.5) and _is_one_plus_erf(draft, gate, x) else None


def _is_one_plus_erf(draft: Draft, gate: str, x: str) -> bool:
    """Whether ``gate`` is 1 + erf(x / sqrt 2)."""
    addition = draft.maker(gate, "binary")
    term = None if addition is None else constant_term(draft, addition)
    if term is None or not (term[1] == 1).all():
        return False
    erf = draft.maker(term[0], "unary")
    if erf is None or erf.attributes["function"] != "erf":
        return False
    division = draft.maker(erf.inputs[0], "binary")
    found = None if division is None else constant_factor(draft, division)
    if found is None or found[0] != x or found[1].size != 1:
        return False
    return math.isclose(found[1].item(), math.sqrt(0.5), rel_tol=1e-4)

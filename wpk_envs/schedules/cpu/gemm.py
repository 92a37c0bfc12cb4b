"""Matrix product with prepacked B, for `Gemm` and for 1x1 convolutions on NHWC activations.

The register tile holds ``tile_ow`` rows of A by ``tile_oc`` vectors of columns. Columns are padded in the
prepacked B; rows that do not divide are either clamped (computed twice, stored once) or zero-padded, and
A may be copied into panels of the register tile first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wpk_envs.core import Config, Constraint, DeviceInfo, Kernel, KnobValue, Operator, Template
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.schedules.cpu import rules


@dataclass(frozen=True)
class Problem:
    """A `Gemm` or a 1x1 `Conv2d` seen as ``batch`` products ``[m, k] x [k, n]``."""

    batch: int
    m: int
    n: int
    k: int

    @classmethod
    def of(cls, operator: Operator) -> Problem:
        """The product's extents; the pixels of a convolution are rows, its filters columns."""
        if isinstance(operator, Gemm):
            return cls(operator.batch, operator.m, operator.n, operator.k)
        assert isinstance(operator, Conv2d)
        return cls(operator.batch, operator.out_height * operator.out_width, operator.filters, operator.channels)


class GemmTemplate(Template):
    """GEMM with packed B, optional packed A panels, and rows of any number."""

    name: ClassVar[str] = "cpu/gemm"
    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = (
        "vector",
        "tile_oc",
        "tile_ow",
        "unroll",
        "order",
        "block_m",
        "pack_a",
        "pad_m",
    )

    default: ClassVar[Mapping[str, KnobValue]] = {
        "vector": 16, "tile_oc": 4, "tile_ow": 6, "unroll": 4, "order": "oc_outer", "block_m": "none", "pack_a": "no",
        "pad_m": "no",
    }  # fmt: skip

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Matrix products, and dense 1x1 convolutions without padding."""
        if isinstance(operator, Conv2d):
            return operator.kernel == (1, 1) and operator.groups == 1 and not any(operator.padding)
        return isinstance(operator, Gemm)

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """Register tile, waste, unrolled body, and row padding only where rows do not divide."""
        problem = Problem.of(operator)
        most = rules.MAX_UNROLLED_FMAS

        def rows_padded(tile: int, pack_a: str, pad_m: str) -> bool:
            if problem.m % tile == 0:
                return pad_m == "no"
            return pad_m == "yes" or pack_a == "no"

        def blocks_rows(order: str, tile: int, block: int | str) -> bool:
            if order == "oc_middle":
                return block != "none" and tile < int(block) < problem.m
            return block == "none"

        return [
            rules.vector_width(problem.n, device),
            rules.filter_waste(problem.n),
            rules.register_tile(("tile_oc", "tile_ow"), problem.m, problem.n, device),
            rules.pixel_waste("tile_ow", problem.m),
            Constraint(("unroll",), lambda unroll: problem.k % unroll == 0, f"unroll divides k = {problem.k}"),
            Constraint(
                ("tile_oc", "tile_ow", "unroll"),
                lambda oc, ow, unroll: oc * ow * unroll <= most,
                f"at most {most} multiply-adds in the unrolled body",
            ),
            Constraint(
                ("order", "tile_ow", "block_m"),
                blocks_rows,
                "block_m between the row tile and m for oc_middle, none for other orders",
            ),
            Constraint(
                ("tile_ow", "pack_a", "pad_m"),
                rows_padded,
                "pad_m only where the row tile does not divide m, and then always with packed panels",
            ),
        ]

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """Multiply-adds over padded rows and columns."""
        problem = Problem.of(operator)
        rows = rules.ceil_to(problem.m, int(config["tile_ow"]))
        columns = rules.ceil_to(problem.n, int(config["tile_oc"]) * int(config["vector"]))
        return 2.0 * problem.batch * rows * columns * problem.k

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """Accumulators over registers, bytes of one tile's panels over L1, and FMAs per load."""
        oc, rows = int(partial.get("tile_oc", 1)), int(partial.get("tile_ow", 1))
        touched = 4 * Problem.of(operator).k * (oc * int(partial.get("vector", 1)) + rows)
        return rules.scaled_features(oc * rows, touched, oc * rows / (oc + rows), device)

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Write the product over the chosen view of A, then tile, unroll and vectorise it."""
        from tvm import te

        from wpk_envs.schedules.cpu import tensorir as ir

        assert isinstance(operator, (Conv2d, Gemm))
        problem, lanes = Problem.of(operator), int(config["vector"])
        block = int(config["tile_oc"]) * lanes
        columns = rules.ceil_to(problem.n, block)
        shape = (problem.batch, problem.m, columns)

        args = ir.Arguments()
        element = _declare_a(args, operator)
        weight = _declare_b(args, operator, problem, block)
        bias, residual = _declare_epilogue(args, operator, shape)
        rows = _rows(element, problem, config)
        k = te.reduce_axis((0, problem.k), "k")
        product = te.compute(
            (problem.batch, rules.ceil_to(problem.m, int(config["tile_ow"])), columns),
            lambda b, i, j: te.sum(
                rows.element(b, i, k) * weight[b if weight.shape[0] > 1 else 0, j // block, k, j % block], axis=k
            ),
            name="product",
        )
        output = te.compute(
            shape,
            lambda b, i, j: ir.epilogue(
                operator,
                product[b, i, j],
                bias[j] if bias is not None else None,
                residual[b, i, j] if residual is not None else None,
            ),
            name="output",
        )
        schedule, finish = args.finish(output, f"MN{columns}n", lambda a: _unpack_output(a, operator, problem))
        _schedule(schedule, config, block, lanes, device.threads, copied=rows.copied)
        return finish()


@dataclass(frozen=True)
class _Rows:
    """How the product reads A: ``element(batch, row, k)``, and whether a block ``rows`` copies it first."""

    element: Callable[[Any, Any, Any], Any]
    copied: bool


def _rows(element: Callable[[Any, Any, Any], Any], problem: Problem, config: Config) -> _Rows:
    from tvm import te
    from tvm.tirx import const

    tile, m = int(config["tile_ow"]), problem.m
    padded = rules.ceil_to(m, tile)

    def zero_below(b: Any, i: Any, k: Any) -> Any:
        if padded == m:
            return element(b, i, k)
        return te.if_then_else(i < m, element(b, te.min(i, m - 1), k), const(0.0, "float32"))

    if config["pack_a"] == "yes":
        shape = (problem.batch, padded // tile, problem.k, tile)
        panels = te.compute(shape, lambda b, p, k, i: zero_below(b, p * tile + i, k), name="rows")
        return _Rows(lambda b, i, k: panels[b, i // tile, k, i % tile], copied=True)
    if config["pad_m"] == "yes":
        copy = te.compute((problem.batch, padded, problem.k), zero_below, name="rows")
        return _Rows(lambda b, i, k: copy[b, i, k], copied=True)
    if padded == m:
        return _Rows(element, copied=False)
    return _Rows(lambda b, i, k: element(b, te.min(i, m - 1), k), copied=False)


def _declare_a(args: Any, operator: Operator) -> Callable[[Any, Any, Any], Any]:
    if isinstance(operator, Gemm):
        a = args.add("a", (operator.batch, operator.m, operator.k), "MK", np.ascontiguousarray)
        return lambda b, i, k: a[b, i, k]
    assert isinstance(operator, Conv2d)
    (stride_h, stride_w), width = operator.stride, operator.out_width
    shape = (operator.batch, operator.height, operator.width, operator.channels)
    x = args.add("x", shape, "NHWC", lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)))
    if stride_h == stride_w == 1:
        return lambda b, i, k: x[b, i // width, i % width, k]
    return lambda b, i, k: x[b, i // width * stride_h, i % width * stride_w, k]


def _declare_b(args: Any, operator: Operator, problem: Problem, block: int) -> Any:
    columns = rules.ceil_to(problem.n, block)

    def pack(weight: np.ndarray) -> np.ndarray:
        matrices = weight if isinstance(operator, Gemm) else weight.reshape(1, problem.n, problem.k).swapaxes(1, 2)
        padded = np.zeros((len(matrices), problem.k, columns), dtype=np.float32)
        padded[:, :, : problem.n] = matrices
        blocked = padded.reshape(len(matrices), problem.k, columns // block, block)
        return np.ascontiguousarray(blocked.swapaxes(1, 2))

    name, count = ("b", problem.batch) if isinstance(operator, Gemm) else ("weight", 1)
    return args.add(name, (count, columns // block, problem.k, block), f"NK{block}n", pack)


def _declare_epilogue(args: Any, operator: Conv2d | Gemm, shape: tuple[int, int, int]) -> tuple[Any, Any]:
    batch, rows, columns = shape

    def pack_residual(array: np.ndarray) -> np.ndarray:
        matrix = array if array.ndim == 3 else array.transpose(0, 2, 3, 1).reshape(batch, rows, -1)
        return np.pad(matrix, ((0, 0), (0, 0), (0, columns - matrix.shape[2])))

    bias = residual = None
    if operator.bias:
        bias = args.add("bias", (columns,), "N", lambda a: np.pad(a, (0, columns - a.size)))
    if operator.residual:
        residual = args.add("residual", shape, f"MN{columns}n", pack_residual)
    return bias, residual


def _unpack_output(array: np.ndarray, operator: Operator, problem: Problem) -> np.ndarray:
    useful = array[:, :, : problem.n]
    if isinstance(operator, Gemm):
        return useful
    assert isinstance(operator, Conv2d)
    image = useful.reshape(problem.batch, operator.out_height, operator.out_width, problem.n)
    return image.transpose(0, 3, 1, 2)


def _schedule(s: Any, config: Config, block: int, lanes: int, threads: int, copied: bool) -> None:
    from wpk_envs.schedules.cpu import tensorir as ir

    out, product = s.get_sblock("output"), s.get_sblock("product")
    b, i, j = s.get_loops(out)
    tile = int(config["tile_ow"])
    i_tile, i_in = s.split(i, [None, tile])
    j_block, j_in = s.split(j, [None, block])
    if config["order"] == "oc_middle":
        i_block, i_tile = s.split(i_tile, [None, int(config["block_m"]) // tile])
        outer = [i_block, j_block, i_tile]
    else:
        outer = [j_block, i_tile] if config["order"] == "oc_outer" else [i_tile, j_block]
    s.reorder(b, *outer, i_in, j_in)
    s.compute_at(product, outer[-1], preserve_unit_loops=True)
    s.set_scope(product, 0, "local")
    s.unroll(i_in)
    ir.vectorize_lanes(s, j_in, lanes)

    row, column, k = s.get_loops(product)[-3:]
    k_o, k_i = s.split(k, [None, int(config["unroll"])])
    column_o, column_i = s.split(column, [None, lanes])
    s.reorder(k_o, k_i, row, column_o, column_i)
    s.vectorize(column_i)
    ir.unroll_all(s, [k_i, row, column_o])
    if copied:
        copy = s.get_sblock("rows")
        if config["order"] != "oc_outer":
            s.compute_at(copy, outer[0], preserve_unit_loops=True)
        else:
            ir.parallel_outer(s, s.get_loops(copy)[:2], threads)
        ir.vectorize_copy(s, s.get_loops(copy)[-1], lanes)
    ir.parallel_outer(s, [b, outer[0]], threads)

    ir.split_initialisation(s, product, k_o, 3)

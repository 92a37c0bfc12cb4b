"""The product that GEMM, implicit GEMM and Winograd share: tiles in shared memory, register tiles, split reduction.

``out[batch, m, n] = sum over k of a[batch, k, m] * b[batch, k, n]``, where a and b are read through any
expression (a padded image, a strided one), so that zero padding and image-to-column cost no memory.
This file has the tile sizes and their static rules; `wpk_envs.schedules.cuda.product_ir` writes the TensorIR.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from wpk_envs.core import Config, Constraint, DeviceInfo
from wpk_envs.schedules.cuda import rules

PRODUCT_KNOBS = (
    "block_m",
    "block_n",
    "split_k",
    "block_k",
    "stage",
    "thread_m",
    "thread_n",
    "vthread_m",
    "vthread_n",
    "unroll",
    "vector_load",
)

SMALLEST_TILE = 8
"""Least rows and columns of a block's tile."""

SMALLEST_STEP = 4
"""Least steps of the reduction in shared memory together."""

LARGEST_SPLIT = 32

MOST_FETCHED = 32
"""Elements of one tile that a thread fetches at most: each takes a register for its address or its value."""

BLOCKS_OF_SPLIT = 8
"""Beyond so many blocks per multiprocessor, splitting the reduction only adds sums."""


@dataclass(frozen=True)
class Operand:
    """One factor of the product.

    Attributes:
        contiguous: Which index lies side by side in memory: ``"k"``, or ``"mn"`` (m of a, n of b).
        vector: Largest number of floats that one load may fetch along it; predicates never cut through.
    """

    contiguous: Literal["k", "mn"]
    vector: int


@dataclass(frozen=True)
class Product:
    """Extents of a product and how its factors are read.

    Attributes:
        batch: Independent products.
        m: Rows of the output.
        n: Columns of the output.
        k: Length of the reduction.
        a: The factor whose other index is m.
        b: The factor whose other index is n.
    """

    batch: int
    m: int
    n: int
    k: int
    a: Operand
    b: Operand


@dataclass(frozen=True)
class Tile:
    """The knobs of one config, and what follows from them."""

    block_m: int
    block_n: int
    block_k: int
    thread_m: int
    thread_n: int
    vthread_m: int
    vthread_n: int
    vector_load: int
    stage: int
    split_k: int
    unroll: int

    @classmethod
    def of(cls, config: Config) -> Tile:
        """The product's knobs in a config; missing ones (of a partial config) count as 1."""
        return cls(**{knob: int(config.get(knob, 1)) for knob in PRODUCT_KNOBS})

    @property
    def threads(self) -> int:
        """Threads of a block."""
        sizes = self.block_m, self.block_n, self.thread_m, self.thread_n, self.vthread_m, self.vthread_n
        return max(1, _threads(*sizes))

    @property
    def accumulators(self) -> int:
        """Output elements of one thread."""
        return self.thread_m * self.thread_n * self.vthread_m * self.vthread_n

    def padded(self, product: Product) -> tuple[int, int, int]:
        """m, n and k rounded up to whole tiles; k to whole tiles in every part."""
        return (
            rules.ceil_to(product.m, self.block_m),
            rules.ceil_to(product.n, self.block_n),
            rules.ceil_to(product.k, self.block_k * self.split_k),
        )


def constraints(
    selectors: tuple[str, ...], product_of: Callable[..., Product], device: DeviceInfo, splits: bool = True
) -> list[Constraint]:
    """Every static rule of a product's knobs; a config that passes compiles, fits and does not spill.

    Args:
        selectors: Knobs that decide which product it is, such as ``("layout",)``.
        product_of: The product for one value per selector.
        device: Whose limits hold.
        splits: Whether the template has the knob ``split_k``; without it there is one part.
    """
    return _Rules(selectors, functools.cache(product_of), device, splits).all()


class _Rules:
    def __init__(
        self, selectors: tuple[str, ...], product_of: Callable[..., Product], device: DeviceInfo, splits: bool
    ) -> None:
        self.selectors, self.product_of, self.device, self.splits = selectors, product_of, device, splits

    def all(self) -> list[Constraint]:
        return [*self._tiles(), *self._threads(), *self._reduction()]

    def _rule(self, knobs: tuple[str, ...], allows: Callable[..., bool], reason: str) -> Constraint:
        """A rule that reads the product too: ``allows(product, *values)``; ``split_k`` is the last knob, if any."""
        count = len(self.selectors)
        if knobs[-1:] == ("split_k",) and not self.splits:
            return self._rule(knobs[:-1], lambda *given: allows(*given, 1), reason)
        return Constraint(
            (*self.selectors, *knobs), lambda *given: allows(self.product_of(*given[:count]), *given[count:]), reason
        )

    def _tiles(self) -> list[Constraint]:
        def little_waste(extent: int, tile: int) -> bool:
            return tile == SMALLEST_TILE or (tile > SMALLEST_TILE and rules.little_waste(extent, tile))

        return [
            self._rule(("block_m",), lambda p, tile: little_waste(p.m, tile), "block_m pads by at most a third"),
            self._rule(("block_n",), lambda p, tile: little_waste(p.n, tile), "block_n pads by at most a third"),
            rules.divides("block_m", "thread_m", "vthread_m"),
            rules.divides("block_n", "thread_n", "vthread_n"),
            Constraint(
                ("thread_m", "thread_n", "vthread_m", "vthread_n", "unroll"),
                lambda *sizes: math.prod(sizes) <= rules.MAX_UNROLLED_FMAS,
                f"at most {rules.MAX_UNROLLED_FMAS} multiply-adds in the unrolled body",
            ),
            self._rule(
                ("block_k", "vector_load"),
                lambda p, block_k, vector: _fits_k(p.a, vector, block_k) and _fits_k(p.b, vector, block_k),
                "vectors along the reduction fit into block_k",
            ),
        ]

    def _threads(self) -> list[Constraint]:
        device, most = self.device, self.device.limits["threads_per_block"]
        shared = device.limits["shared_bytes_per_block"]

        def registers_fit(*sizes_and_stage: int) -> bool:
            *sizes, stage = sizes_and_stage
            tile = Tile(*sizes, vector_load=1, stage=stage, split_k=1, unroll=1)  # type: ignore[misc]
            return registers(tile) <= rules.registers_allowed(device, tile.threads)

        def operands_to_fetch(m: int, n: int, k: int, *register_tile: int) -> bool:
            threads = _threads(m, n, *register_tile)
            return threads <= 2 * min(m, n) * k and (m + n) * k <= MOST_FETCHED * threads

        outer = ("thread_m", "thread_n", "vthread_m", "vthread_n")
        return [
            Constraint(
                ("block_m", "block_n", *outer),
                lambda *sizes: rules.whole_warps(_threads(*sizes), most),
                f"whole warps and at most {most} threads in a block",
            ),
            Constraint(
                ("block_m", "block_n", "block_k", *outer, "stage"),
                registers_fit,
                "an upper bound on registers stays within what a thread may have",
            ),
            Constraint(
                ("block_m", "block_n", "block_k", *outer),
                operands_to_fetch,
                "at least half of a block's threads fetch from either operand, and none more than "
                f"{MOST_FETCHED} elements of a tile",
            ),
            self._rule(
                ("block_m", "block_n", "block_k"),
                lambda p, m, n, k: _shared_bytes(p, m, n, k) <= shared,
                f"the tiles fit into {shared} bytes of shared memory",
            ),
        ]

    def _reduction(self) -> list[Constraint]:
        multiprocessors = self.device.limits["multiprocessors"]

        def enough_blocks(p: Product, m: int, n: int, split: int) -> bool:
            sums = min(LARGEST_SPLIT, max(1, p.k // LARGEST_SPLIT)) if self.splits else 1
            blocks = _blocks(p, m, n) * split
            return blocks >= rules.blocks_wanted(self.device, p.batch * p.m * p.n * sums) and (
                split == 1 or blocks <= BLOCKS_OF_SPLIT * multiprocessors
            )

        def parts_fit(p: Product, block_k: int, split: int) -> bool:
            return split == 1 or (p.k >= 2 * block_k * split and rules.little_waste(p.k, block_k * split))

        return [
            self._rule(
                ("block_m", "block_n", "split_k"),
                enough_blocks,
                f"enough blocks for {multiprocessors} multiprocessors where the shape allows it, and a reduction is "
                f"not split into more than {BLOCKS_OF_SPLIT} blocks for each",
            ),
            self._rule(
                ("block_k",),
                lambda p, k: k == SMALLEST_STEP or (k > SMALLEST_STEP and rules.little_waste(p.k, k)),
                "block_k pads the reduction by at most a third",
            ),
            self._rule(
                ("block_k", "split_k"), parts_fit, "parts of the reduction have at least two steps and waste little"
            ),
            Constraint(("block_k", "unroll"), lambda block_k, unroll: unroll <= block_k, "unroll is at most block_k"),
            self._rule(
                ("block_k", "stage", "split_k"),
                lambda p, block_k, stage, split: stage == 1 or p.k > block_k * split,
                "only a reduction of several steps is fetched ahead",
            ),
            self._rule(
                ("split_k",),
                lambda p, split: p.batch * split <= rules.MAX_GRID_Z,
                f"a grid has at most {rules.MAX_GRID_Z} blocks along its last axis",
            ),
        ]


def executed_flops(product: Product, tile: Tile) -> float:
    """Multiply-adds over whole tiles, and the sums of a split reduction."""
    m, n, k = tile.padded(product)
    return product.batch * (2.0 * m * n * k + (tile.split_k - 1) * product.m * product.n)


def static_features(product: Product, tile: Tile, device: DeviceInfo) -> tuple[float, float, float]:
    """Accumulators of a thread, shared memory of a block, multiply-adds per element read from shared memory."""
    rows, columns = tile.thread_m * tile.vthread_m, tile.thread_n * tile.vthread_n
    shared = _shared_bytes(product, tile.block_m, tile.block_n, tile.block_k)
    return rules.scaled_features(tile.accumulators, shared, rows * columns / (rows + columns), device)


def registers(tile: Tile) -> int:
    """An upper bound on a thread's registers: accumulators, fragments, what is fetched ahead, addresses."""
    fragments = tile.thread_m * tile.vthread_m + tile.thread_n * tile.vthread_n
    elements = (tile.block_m + tile.block_n) * tile.block_k
    fetched = rules.ceil_div(elements, tile.threads) if tile.stage == 2 else min(8, elements // tile.threads)
    return tile.accumulators + 2 * fragments + 2 * fetched + rules.OVERHEAD_REGISTERS


def _threads(block_m: int, block_n: int, thread_m: int, thread_n: int, vthread_m: int, vthread_n: int) -> int:
    return block_m // (thread_m * vthread_m) * (block_n // (thread_n * vthread_n))


def _blocks(product: Product, block_m: int, block_n: int) -> int:
    return product.batch * rules.ceil_div(product.m, block_m) * rules.ceil_div(product.n, block_n)


def _fits_k(operand: Operand, vector: int, block_k: int) -> bool:
    return operand.contiguous == "mn" or min(vector, operand.vector) <= block_k


def _shared_bytes(product: Product, block_m: int, block_n: int, block_k: int) -> int:
    rows = sum(
        block + (rules.SKEW if operand.contiguous == "k" else 0)
        for block, operand in ((block_m, product.a), (block_n, product.b))
    )
    return rules.FLOAT_BYTES * rows * block_k

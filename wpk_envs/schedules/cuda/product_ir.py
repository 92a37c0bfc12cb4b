"""The TensorIR of `wpk_envs.schedules.cuda.product`. Imported only when a kernel is built, because it imports TVM."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx
from tvm.s_tir import Schedule

from wpk_envs.schedules.cuda import rules
from wpk_envs.schedules.cuda.product import Operand, Product, Tile
from wpk_envs.schedules.tensorir import unroll_all

Element = Callable[[Any, Any, Any], Any]
"""An expression of (batch, k, m or n)."""

SUM_THREADS = 128
"""Threads of a block that sums up the parts of a split reduction."""


def declare(product: Product, tile: Tile, a: Element, b: Element, name: str = "product") -> Element:
    """Declare the product of two factors read through expressions.

    Args:
        product: Its extents.
        tile: Its tile sizes.
        a: Element of the first factor at (batch, k, m); only asked for indices within the padded extents.
        b: Element of the second factor at (batch, k, n).
        name: Name of the product's block; others are named after it.

    Returns:
        The product's element at (batch, m, n).
    """
    m, n, k = tile.padded(product)
    part = k // tile.split_k
    a_tile = te.compute((product.batch, k, m), a, name=f"{name}_a")
    b_tile = te.compute((product.batch, k, n), b, name=f"{name}_b")
    step = te.reduce_axis((0, part), "k")
    if tile.split_k == 1:
        total = te.compute(
            (product.batch, m, n),
            lambda z, i, j: te.sum(a_tile[z, step, i] * b_tile[z, step, j], axis=step),
            name=name,
        )
        return lambda z, i, j: total[z, i, j]
    parts = te.compute(
        (tile.split_k, product.batch, m, n),
        lambda s, z, i, j: te.sum(a_tile[z, s * part + step, i] * b_tile[z, s * part + step, j], axis=step),
        name=name,
    )
    return lambda z, i, j: functools.reduce(operator.add, (parts[s, z, i, j] for s in range(tile.split_k)))


def guarded(inside: Sequence[Any], value: Callable[[], Any]) -> Any:
    """An element where all conditions hold, zero elsewhere; without conditions the element itself."""
    conditions = [each for each in inside if not isinstance(each, bool)]
    if not conditions:
        return value()
    return te.if_then_else(te.all(*conditions), value(), tirx.const(0.0, "float32"))


def schedule(s: Schedule, product: Product, tile: Tile, name: str = "product", output: str | None = "output") -> None:
    """Bind, tile and unroll a declared product and the block that takes its elements.

    Args:
        s: The schedule.
        product: The product's extents.
        tile: Its tile sizes.
        name: Name of its block.
        output: The block with loops (batch, m, n) whose element reads the product's of the same place; without
            one the product goes to global memory, for a stage that follows.
    """
    main = s.get_sblock(name)
    if tile.split_k == 1 and output is not None:
        s.set_scope(main, 0, "local")
        store = s.get_sblock(output)
    else:
        store = s.cache_write(main, 0, "local")
    if tile.split_k > 1 and output is not None:
        bind_flat(s, s.get_loops(s.get_sblock(output)), SUM_THREADS)
    thread = _bind_tile(s, store, product, tile)
    s.compute_at(main, thread, preserve_unit_loops=True)
    row, column, k = s.get_loops(main)[-3:]
    k_tile, k_step, k_unrolled = s.split(k, [None, tile.block_k // tile.unroll, tile.unroll])
    s.reorder(k_tile, k_step, k_unrolled, row, column)
    unroll_all(s, [k_unrolled, row, column])
    for loop in (k_tile, k_step):
        s.annotate(loop, "disable_unroll", True)
    for operand, suffix in ((product.a, "a"), (product.b, "b")):
        _fetch(s, s.get_sblock(f"{name}_{suffix}"), k_tile, operand, tile)
    if tile.stage == 2:
        # Once their registers are blocks of their own: a, store a, b, store b, multiply.
        s.annotate(k_tile, "software_pipeline_stage", [0, 0, 0, 0, 1])
        s.annotate(k_tile, "software_pipeline_order", [0, 3, 1, 4, 2])
        # What is fetched into registers lies in a local array, whose indices must be constants: its loops are made by
        # the pass that splits the fetch, so they cannot be unrolled by name.
        s.annotate(k_tile, "pragma_auto_unroll_max_step", 16)
    init = s.decompose_reduction(main, k_tile)
    unroll_all(s, s.get_loops(init)[-2:])


def _bind_tile(s: Schedule, store: Any, product: Product, tile: Tile) -> Any:
    """Bind the loops of the block that stores a tile to blocks, virtual threads and threads; the thread's loop."""
    *outer, i, j = s.get_loops(store)
    rows = tile.block_m // (tile.vthread_m * tile.thread_m)
    columns = tile.block_n // (tile.vthread_n * tile.thread_n)
    i_block, i_virtual, i_thread, i_in = s.split(i, [None, tile.vthread_m, rows, tile.thread_m])
    j_block, j_virtual, j_thread, j_in = s.split(j, [None, tile.vthread_n, columns, tile.thread_n])
    s.reorder(*outer, i_block, j_block, i_virtual, j_virtual, i_thread, j_thread, i_in, j_in)
    s.bind(s.fuse(*outer) if len(outer) > 1 else outer[0], "blockIdx.z")
    s.bind(s.fuse(i_block, j_block), "blockIdx.x")
    s.bind(i_virtual, "vthread.y")
    s.bind(j_virtual, "vthread.x")
    thread = s.fuse(i_thread, j_thread)
    s.bind(thread, "threadIdx.x")
    s.unroll(i_in)
    _store_vectors(s, j_in, math.gcd(tile.thread_n, tile.vector_load), product.n)
    return thread


def _store_vectors(s: Schedule, loop: Any, width: int, extent: int) -> None:
    """Unroll the innermost loop of a store, in vectors where they never reach over the edge."""
    if width == 1 or extent % width:
        s.unroll(loop)
        return
    outer, inner = s.split(loop, [None, width])
    s.unroll(outer)
    s.vectorize(inner)


def _fetch(s: Schedule, block: Any, k_tile: Any, operand: Operand, tile: Tile) -> None:
    """Copy an operand's tile into shared memory with all threads, side by side along what lies side by side."""
    s.set_scope(block, 0, "shared")  # before compute_at, which else takes the region that one thread reads
    s.compute_at(block, k_tile, preserve_unit_loops=True)
    k, mn = s.get_loops(block)[-2:]
    if operand.contiguous == "k":
        s.reorder(mn, k)
        s.storage_align(block, 0, axis=-2, factor=2 * rules.SKEW, offset=rules.SKEW)
        loop = s.fuse(mn, k)
    else:
        loop = s.fuse(k, mn)
    turns, threads, lanes = s.split(loop, [None, tile.threads, min(tile.vector_load, operand.vector)])
    s.bind(threads, "threadIdx.x")
    s.vectorize(lanes)
    if tile.stage == 1:
        s.unroll(turns)
    else:
        s.annotate(block, "tirx.manifest_shared_memory_local_stage", 1)


def bind_flat(s: Schedule, loops: Sequence[Any], threads: int) -> Any:
    """Spread loops over blocks of so many threads, one element each; the thread's loop."""
    block, thread = s.split(s.fuse(*loops), [None, threads])
    s.bind(block, "blockIdx.x")
    s.bind(thread, "threadIdx.x")
    return thread

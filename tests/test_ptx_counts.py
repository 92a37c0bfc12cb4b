"""What the PTX interpreter counts: exactly what small kernels do, and what a slow count says of larger ones."""

from __future__ import annotations

import math
import time

import numpy as np
import psutil
import pytest

pytest.importorskip("cuda.bindings", reason="compiling for NVIDIA GPUs needs the extra cuda")

from tests.ptx_counting import ReferenceBlock, segments_of
from tests.ptx_samples import DOUBLE_BUFFERED, GEMM, empty, fixed, program, written
from wpk_envs.devices.cuda.build import build
from wpk_envs.devices.cuda.descriptions import describe
from wpk_envs.devices.ptx import BlockCounts, Class, Cycles, Program, PtxError, parse
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.schedules import build_space

LATENCY = {
    Class.FMA: 6,
    Class.FLOAT: 5,
    Class.INTEGER: 4,
    Class.MULTIPLY: 13,
    Class.COMPARE: 7,
    Class.LONG: 8,
    Class.LOAD_GLOBAL: 200,
    Class.LOAD_READ_ONLY: 230,
    Class.LOAD_SHARED: 26,
}
CYCLES = Cycles(LATENCY, {Class.MOVE: 0, Class.LONG: 2})
WIDTH = {4: 0, 8: 1, 16: 2}


def counted(kernel: Program, *arguments: np.ndarray | int, threads: int = 32, **options: object) -> BlockCounts:
    """What the first block does."""
    (counts,) = kernel.count((4,), (threads,), arguments, CYCLES, blocks=[0], **options)
    return counts


def transactions(counts: BlockCounts, kind: Class) -> tuple[int, int]:
    """Requests of any width and transactions of a class."""
    return int(counts.total(counts.requests)[kind].sum()), int(counts.total(counts.transactions)[kind])


# ---------------------------------------------------------------- global memory

READ = """
extern "C" __global__ void read(const {element}* __restrict__ x, {element}* y, int stride, int start) {{
  y[threadIdx.x] = x[threadIdx.x * stride + start];
}}
"""


@pytest.mark.parametrize(
    ("element", "stride", "start", "sectors"),
    [
        ("float", 1, 0, 4),
        ("float", 1, 1, 5),
        ("float", 1, 8, 4),
        ("float", 0, 5, 1),
        ("float", 2, 0, 8),
        ("float", 8, 0, 32),
        ("float", 33, 0, 32),
        ("float2", 1, 0, 8),
        ("float4", 1, 0, 16),
        ("float4", 2, 0, 32),
        ("short", 1, 0, 2),
    ],
)
def test_a_request_for_global_memory_needs_its_distinct_sectors(element, stride, start, sectors) -> None:
    kernel = program(READ.format(element=element))
    size = {"float": 4, "float2": 8, "float4": 16, "short": 2}[element]
    counts = counted(kernel, empty(1 << 14), empty(1 << 14), stride, start)
    assert transactions(counts, Class.LOAD_READ_ONLY) == (1, sectors)
    assert transactions(counts, Class.STORE_GLOBAL) == (1, 32 * size // 32)
    assert counts.total(counts.requests)[Class.LOAD_READ_ONLY, WIDTH[max(4, size)]] == 1
    assert transactions(counts, Class.LOAD_GLOBAL) == (0, 0)
    assert counts.loaded.tolist() == [sectors, 0, 0, 0]
    assert counts.stored.tolist() == [0, size, 0, 0]


def test_a_warp_of_eight_threads_asks_for_what_they_need() -> None:
    counts = counted(program(READ.format(element="float")), empty(1 << 14), empty(1 << 14), 1, 0, threads=40)
    assert counts.warps == 2
    assert transactions(counts, Class.LOAD_READ_ONLY) == (2, 5)


def test_sectors_that_a_block_loads_again_are_moved_again_but_are_no_more() -> None:
    body = (
        "ld.global.f32 %w0, [%d10]; ld.global.f32 %w0, [%d10+16]; ld.global.f32 %w0, [%d11]; st.global.f32 [%d10], %w0;"
    )
    kernel = written(body, 2)
    for _ in range(2):
        first, again = kernel.count((4,), (32,), [empty(8), empty(8)], CYCLES, blocks=[0, 3])
        for counts in (first, again):
            assert transactions(counts, Class.LOAD_GLOBAL) == (3, 3)
            assert (counts.loaded.tolist(), counts.stored.tolist()) == ([1, 1], [1, 0])


# ---------------------------------------------------------------- shared and local memory


@pytest.mark.parametrize(
    ("cell", "stride", "passes"),
    [
        ("f32", 4, 1),
        ("f32", 0, 1),
        ("f32", 8, 2),
        ("f32", 12, 1),
        ("f32", 64, 16),
        ("f32", 128, 32),
        ("f32", 132, 1),
        ("v2.f32", 8, 2),
        ("v2.f32", 16, 4),
        ("v2.f32", 0, 2),
        ("v4.f32", 16, 4),
        ("v4.f32", 32, 8),
        ("v4.f32", 128, 32),
        ("u8", 1, 1),
        ("u8", 128, 32),
    ],
)
def test_banks_of_shared_memory_serve_one_word_at_a_time(cell: str, stride: int, passes: int) -> None:
    count = int(cell[1]) if cell[0] == "v" else 1
    register = "%h0" if cell == "u8" else "%w0"
    values = f"{{{', '.join(f'%w{i}' for i in range(count))}}}" if count > 1 else register
    body = f"""
      mov.u32 %w8, %tid.x; mul.wide.u32 %d0, %w8, {stride}; mov.u64 %d1, tile; add.s64 %d1, %d1, %d0;
      st.shared.{cell} [%d1], {values}; ld.shared.{cell} {values}, [%d1+64];
    """
    counts = counted(written(body, declarations=".shared .align 16 .b8 tile[8192];"), empty(1))
    for kind in (Class.LOAD_SHARED, Class.STORE_SHARED):
        assert transactions(counts, kind) == (1, passes)


WALKS = {
    # threads that take part, byte that a thread reads: passes of every step
    ("32", "4 * i * t"): [1, 1, 2, 1],
    ("32", "4 * (8 * t + i)"): [8, 8, 8, 8],
    ("(4 << i)", "128 * t"): [4, 8, 16, 32],
    ("(t < 16 ? 32 : i * 16)", "128 * t"): [16, 16, 32, 32],
    ("32", "66 * t + i"): [1, 1, 2, 2],
}


@pytest.mark.parametrize(("threads", "byte"), WALKS)
def test_bank_conflicts_of_one_instruction_may_change_from_step_to_step(threads: str, byte: str) -> None:
    source = f"""
    extern "C" __global__ void walk(int* y) {{
      extern __shared__ __align__(16) char tile[];
      int sum = 0, t = threadIdx.x;
      #pragma unroll 1
      for (int i = 0; i < 4; ++i)
        if (t < {threads}) sum += {"tile[" + byte + "]" if "66" in byte else "*(int*)(tile + " + byte + ")"};
      y[t] = sum;
    }}
    """
    counts = counted(program(source), empty(32), dynamic_shared=8192)
    assert transactions(counts, Class.LOAD_SHARED) == (4, sum(WALKS[threads, byte]))


@pytest.mark.parametrize(
    ("cell", "stride", "sectors"), [("f32", 0, 4), ("f32", 4, 32), ("v2.f32", 0, 8), ("v4.f32", 0, 16)]
)
def test_local_memory_lies_side_by_side_for_the_threads_of_a_warp(cell: str, stride: int, sectors: int) -> None:
    values = {"f32": "%w0", "v2.f32": "{%w0, %w1}", "v4.f32": "{%w0, %w1, %w2, %w3}"}[cell]
    body = f"""
      mov.u32 %w8, %tid.x; mul.wide.u32 %d0, %w8, {stride}; mov.u64 %d1, own; add.s64 %d1, %d1, %d0;
      st.local.{cell} [%d1], {values}; ld.local.{cell} {values}, [%d1];
    """
    counts = counted(written(body, declarations=".local .align 16 .b8 own[128];"), empty(1))
    for kind in (Class.LOAD_LOCAL, Class.STORE_LOCAL):
        assert transactions(counts, kind) == (1, sectors)


# ---------------------------------------------------------------- instructions and branches


def test_both_sides_of_a_divergent_branch_are_counted() -> None:
    body = """
      mov.u32 %w0, %tid.x;
      setp.lt.u32 %p0, %w0, LIMIT;
      @%p0 bra LESS;
      mul.f32 %w1, %w1, %w1;
      mul.f32 %w1, %w1, %w1;
      bra END;
    LESS:
      fma.rn.f32 %w2, %w1, %w1, %w1;
    END:
      add.s32 %w3, %w0, 1;
    """
    for limit, divergent, fma, floats, branches in (
        (8, 1, 1, 4, 4),
        (32, 0, 1, 2, 3),
        (0, 0, 0, 4, 4),
        (64, 0, 2, 0, 2),
    ):
        counts = counted(written(body.replace("LIMIT", str(limit))), empty(1), threads=64)
        total = counts.total(counts.instructions)
        assert counts.total(counts.divergent) == divergent
        assert [total[kind] for kind in (Class.FMA, Class.FLOAT, Class.BRANCH)] == [fma, floats, branches], limit
        assert total[Class.INTEGER] == total[Class.COMPARE] == 2


def test_a_guard_leaves_the_instruction_but_not_the_request() -> None:
    body = """
      mov.u32 %w0, %tid.x; setp.lt.u32 %p0, %w0, 4;
      mul.wide.u32 %d0, %w0, 32; add.s64 %d0, %d10, %d0;
      @%p0 st.global.u32 [%d0], %w0;
    """
    counts = counted(written(body), empty(32), threads=96)
    assert counts.total(counts.instructions)[Class.STORE_GLOBAL] == 3
    assert transactions(counts, Class.STORE_GLOBAL) == (1, 4)


def test_every_multiplication_of_a_product_is_counted() -> None:
    m, n, k = 64, 96, 40
    arguments = [empty(m, k), empty(k, n), empty(m, n), m, n, k]
    counts = program(GEMM.replace("BARRIER", "__syncthreads();")).count((n // 32, m // 32), (64,), arguments, CYCLES)
    assert [each.block for each in counts] == list(range(6))
    assert 32 * sum(each.total(each.instructions)[Class.FMA] for each in counts) == m * n * k
    for each in counts:
        assert each.repeats.sum() == 2 * k // 8 + 1
        assert each.total(each.instructions)[Class.BARRIER] == 2 * k // 8 * each.warps
        assert each.loaded.tolist() == [32 * k * 4 // 32, 32 * k * 4 // 32, 0, 0, 0, 0]
        assert each.stored.tolist() == [0, 0, 32 * 32 * 4 // 32, 0, 0, 0]


# ---------------------------------------------------------------- segments and paths


def test_identical_segments_are_kept_once() -> None:
    source = """
    extern "C" __global__ void turns(float* y, int n) {
      __shared__ float tile[32];
      float sum = 0;
      #pragma unroll 1
      for (int i = 0; i < n; ++i) {
        tile[threadIdx.x] = sum;
        __syncthreads();
        sum += tile[31 - threadIdx.x];
        __syncthreads();
      }
      y[threadIdx.x] = sum;
    }
    """
    kernel = program(source)
    few, many = (counted(kernel, empty(32), n) for n in (10, 20_000))
    assert sorted(few.repeats) == [1, 1, 9, 10]
    assert sorted(many.repeats) == [1, 1, 19_999, 20_000]
    for counts, n in ((few, 10), (many, 20_000)):
        assert counts.total(counts.instructions)[Class.BARRIER] == 2 * n
        assert transactions(counts, Class.LOAD_SHARED) == (n, n)
    assert sorted(few.critical_path) == sorted(many.critical_path)


@pytest.mark.parametrize("length", [1, 7, 40])
def test_a_chain_takes_its_latencies_and_independent_work_its_issue(length: int) -> None:
    chain = counted(written("fma.rn.f32 %w0, %w0, %w1, %w2;\n" * length), empty(1))
    apart = counted(
        written("".join(f"fma.rn.f32 %w{i % 8}, 0f00000000, 0f00000000, 0f00000000;\n" for i in range(length))),
        empty(1),
    )
    outside = 2  # the parameter and the return, one cycle each
    assert (chain.critical_path.tolist(), apart.critical_path.tolist()) == ([6 * length], [6])
    assert chain.issue_path.tolist() == [6 * (length - 1) + outside + 1]
    assert apart.issue_path.tolist() == [length + outside]


def test_paths_go_through_predicates_addresses_and_every_part_of_a_vector() -> None:
    body = """
      ld.global.v2.u64 {%d0, %d1}, [%d10];
      add.s64 %d2, %d1, %d0;
      setp.lt.s64 %p0, %d2, 5;
      selp.b32 %w0, 1, 2, %p0;
      mov.b32 %w1, %w0;
      st.global.v4.u32 [%d11], {1, 2, 3, %w1};
    """
    counts = counted(written(body, 2), empty(4), empty(4))
    assert counts.critical_path.tolist() == [200 + 8 + 7 + 7]
    # two parameters; the load issues at 2, the moves take no cycle, and the store and the return one each
    assert counts.issue_path.tolist() == [2 + 200 + 8 + 7 + 7 + 2]


def test_the_slowest_warp_of_a_segment_counts_and_barriers_start_anew() -> None:
    body = """
      mov.u32 %w0, %tid.x; setp.lt.u32 %p0, %w0, 32;
      @%p0 bra END;
      fma.rn.f32 %w1, %w1, %w1, %w1;
      fma.rn.f32 %w1, %w1, %w1, %w1;
      fma.rn.f32 %w1, %w1, %w1, %w1;
    END:
      bar.sync 0;
      fma.rn.f32 %w2, %w1, %w1, %w1;
      bar.sync 0;
    """
    counts = counted(written(body), empty(1), threads=64)
    assert counts.critical_path.tolist() == [18, 6, 0]
    # parameter, comparison, its 7 cycles until the branch, two steps of the chain, its last one and the barrier
    assert counts.issue_path.tolist() == [1 + 7 + 1 + 2 * 6 + 1 + 1, 2, 1]


def test_latencies_are_those_given() -> None:
    kernel = written("fma.rn.f32 %w0, %w0, %w1, %w2;\n" * 3)
    (slow,) = kernel.count((1,), (32,), [empty(1)], Cycles({Class.FMA: 100}, {Class.FMA: 150}))
    assert slow.critical_path.tolist() == [300]
    assert slow.issue_path.tolist() == [3 * 150 + 2]


# ---------------------------------------------------------------- what must not matter


def test_neither_addresses_nor_names_nor_values_matter() -> None:
    shapes = [(64, 16), (16, 64), (64, 64)]
    text = GEMM.replace("BARRIER", "__syncthreads();")
    rng = np.random.default_rng(3)
    results = []
    for attempt in range(3):
        keep = np.empty(997 * (attempt + 1), np.uint8)  # moves what is allocated next
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        kernel = program(text.replace("gemm", f"other_{attempt}"))
        (counts,) = kernel.count((2, 2), (64,), [*arrays, 64, 64, 16], CYCLES, blocks=[3])
        results.append((segments_of(counts), counts.loaded.tolist(), counts.stored.tolist()))
        del keep
    assert results[0] == results[1] == results[2]


def test_arrays_are_never_touched() -> None:
    y = fixed(np.full(1 << 14, 3.0, np.float32))
    x = y.copy()
    kernel = program(READ.format(element="float"))
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    huge = np.empty(1 << 28, np.float32)
    counted(kernel, huge, x, 1 << 22, 0)
    assert time.perf_counter() - start < 1
    assert psutil.Process().memory_info().rss - before < 64 << 20
    assert np.array_equal(x, y)


def test_a_program_runs_and_counts_in_turn() -> None:
    kernel = program(DOUBLE_BUFFERED)
    rng = np.random.default_rng(1)
    a, b, c = fixed(rng.random((12, 32), np.float32)), fixed(rng.random((12, 64), np.float32)), empty(32, 64)
    first = segments_of(counted(kernel, a, b, c, 64, 12, threads=64))
    kernel.run((1,), (64,), [a, b, c, 64, 12])
    np.testing.assert_allclose(c, a.T @ b, rtol=1e-5)
    assert segments_of(counted(kernel, a, b, c, 64, 12, threads=64)) == first


# ---------------------------------------------------------------- refusals


REFUSED = {
    "ld.global.u64 %d0, [%d10]; ld.global.f32 %w0, [%d0];": "an address or a branch depends on what it reads in "
    r"'ld.global.u64 %d0, \[%d10\]'",
    "ld.global.f32 %w0, [%d10]; setp.lt.f32 %p0, %w0, 0f00000000; @%p0 bra END; END:": "depends on what it reads in "
    "'ld.global.f32",
    "ld.f32 %w0, [%d10];": r"line \d+ of kernel kernel cannot be counted: the kind of memory is not known in 'ld.f32",
    "ld.global.f32 %w0, [%d10+64];": "reads 4 bytes at byte 64 of argument 0, which has 32 bytes",
    "LOOP: bra LOOP;": "has not ended after 1000 instructions",
}


@pytest.mark.parametrize(("body", "sentence"), REFUSED.items())
def test_what_cannot_be_counted_is_named(body: str, sentence: str) -> None:
    with pytest.raises(PtxError, match=sentence):
        counted(written(body), empty(8), max_steps=1000)


def test_too_many_different_segments_are_refused() -> None:
    source = """
    extern "C" __global__ void grow(float* y, int n) {
      float sum = 0;
      #pragma unroll 1
      for (int i = 0; i < n; ++i) {
        #pragma unroll 1
        for (int j = 0; j < i; ++j) sum = sum * sum + 1.f;
        __syncthreads();
      }
      y[threadIdx.x] = sum;
    }
    """
    assert len(counted(program(source), empty(32), 300).repeats) == 301
    with pytest.raises(PtxError, match="more than 4096 different segments between barriers"):
        counted(program(source), empty(32), 4200, max_steps=1 << 40)


# ---------------------------------------------------------------- kernels of the templates

DEVICE = describe("p100")
CASES = {
    "implicit_gemm_conv": Conv2d(channels=5, height=9, width=7, filters=12, bias=True, activation="relu"),
    "direct_conv": Conv2d(channels=4, height=8, width=10, filters=8, padding=1),
    "gemm": Gemm(m=40, n=36, k=20),
    "winograd_conv": Conv2d(channels=8, height=9, width=9, filters=16),
}


@pytest.mark.parametrize("template", CASES)
def test_a_templates_kernels_are_counted_as_thread_by_thread(template: str) -> None:
    space, rng = build_space(CASES[template], DEVICE), np.random.default_rng(11)
    while (candidate := space.candidate(space.sample(rng))).config["template"] != template:
        continue
    built = build(candidate, DEVICE)
    sizes = {each.name: math.prod(each.shape) for each in built.program.arguments} | dict(built.program.workspaces)
    for launch in built.program.launches:
        function = parse(built.ptx).functions[launch.function]
        arguments = [None] * len(launch.buffers)
        arrays = [empty(sizes[name]) for name in launch.buffers]
        last = math.prod(launch.grid) - 1
        for counts in Program(function).count(launch.grid, launch.block, arrays, CYCLES, blocks={last // 2, last}):
            slow = ReferenceBlock(function, launch.grid, launch.block, arguments, CYCLES, counts.block)
            assert segments_of(counts) == slow.segments
            assert counts.loaded.tolist() == slow.distinct(False, arguments)
            assert counts.stored.tolist() == slow.distinct(True, arguments)

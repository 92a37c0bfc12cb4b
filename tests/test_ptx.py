"""The PTX interpreter: every instruction, control flow, memory, and everything it must refuse."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="compiling for NVIDIA GPUs needs the extra cuda")

from tests.ptx_reference import evaluate, float_bits
from tests.ptx_samples import (
    ARCHITECTURES,
    DOUBLE_BUFFERED,
    GEMM,
    compiled,
    empty,
    fixed,
    inputs,
    program,
    ptx,
    written,
)
from wpk_envs.devices.ptx import Buffer, Program, PtxError, execute, isa, parse

ORDERS = ("forward", "reverse", "together")
THREADS = 128
CORNERS = [0, 1, 2, 7, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000]
CORNERS += [0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
REALS = [0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 3.49, 1e9, -3e9, 1e20, float("inf"), -float("inf"), float("nan")]
MASK = {"p": 1, "h": 0xFFFF, "w": 0xFFFFFFFF, "d": (1 << 64) - 1}

# ---------------------------------------------------------------- instructions, one by one


def operands_of(opcode: str, letters: str, rng: np.random.Generator) -> np.ndarray:
    """Bits of the operands for every thread: corner cases and random ones."""
    columns = []
    for letter in letters:
        if "f32" in opcode.split(".")[-1] and letter == "w":
            values = [float_bits(x) for x in rng.choice([*REALS, *rng.normal(0, 100, 13)], THREADS)]
        else:
            values = [int(x) for x in rng.integers(0, 1 << 64, THREADS, np.uint64)]
            values = [x if rng.random() < 0.4 else CORNERS[rng.integers(len(CORNERS))] for x in values]
        columns.append([value & MASK[letter] for value in values])
    table = np.array(columns, np.uint64)
    if opcode.startswith(("div", "rem")) and not opcode.endswith("f32"):
        bits = np.uint64((1 << int(opcode.split(".")[-1][1:])) - 1)
        table[1][table[1] & bits == 0] = 1
    return table


def load(letter: str, number: int) -> str:
    """PTX that reads operand ``number`` of a thread into a register of a letter."""
    lines = f"  add.s64 %d{number}, %d{10 + number}, %d9;\n  ld.global.u64 %d{number}, [%d{number}];\n"
    cut = {"h": f"cvt.u16.u64 %h{number}, %d{number};", "w": f"cvt.u32.u64 %w{number}, %d{number};"}
    cut["p"] = f"setp.ne.s64 %p{number}, %d{number}, 0;"
    return lines + "  " + cut.get(letter, "") + "\n"


def run_one(opcode: str, letters: str, operands: np.ndarray) -> np.ndarray:
    """Results of one instruction, zero-extended to 64 bits."""
    count = len(operands)
    body = "  mov.u32 %w8, %tid.x;\n  mul.wide.u32 %d9, %w8, 8;\n"
    body += "".join(load(letter, i) for i, letter in enumerate(letters[1:]))
    sources = [f"%{letter}{i}" for i, letter in enumerate(letters[1:])]
    body += f"  {opcode} {', '.join([f'%{letters[0]}7', *sources])};\n"
    widen = {"p": "selp.u64 %d7, 1, 0, %p7;", "h": "cvt.u64.u16 %d7, %h7;", "w": "cvt.u64.u32 %d7, %w7;"}
    body += f"  {widen.get(letters[0], '')}\n  add.s64 %d8, %d{10 + count}, %d9;\n  st.global.u64 [%d8], %d7;\n"
    result = np.zeros(THREADS, np.uint64)
    arguments = [fixed(column) for column in operands]
    written(body, count + 1).run((1,), (THREADS,), [*arguments, result], warps="together")
    return result


def same(opcode: str, letter: str, ours: int, theirs: int) -> bool:
    """Whether two results agree: bit for bit, of floats within a few units in the last place."""
    if not (letter == "w" and opcode.split(".")[-1 if opcode[:3] != "cvt" else -2] == "f32"):
        return ours == theirs & MASK[letter]
    x, y = (float(np.uint32(bits).view(np.float32)) for bits in (ours, theirs))
    return bool(x == y or abs(x - y) <= 1e-6 * abs(y) + 1e-6 or (np.isnan(x) and np.isnan(y)))


FAMILIES = sorted({opcode.split(".")[0] for opcode in isa.known()})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_known_instruction_computes_what_the_reference_says(family: str) -> None:
    rng = np.random.default_rng(5)
    for opcode, forms in isa.known().items():
        for form in forms if opcode.split(".")[0] == family else []:
            operands = operands_of(opcode, form.operands[1:], rng)
            results = run_one(opcode, form.operands, operands)
            for values, ours in zip(operands.T, results):
                given = [int(value) for value in values]
                theirs = evaluate(opcode, given)
                assert same(opcode, form.operands[0], int(ours), theirs), (opcode, form.operands, given, hex(ours))


def test_parts_of_registers_are_packed_and_unpacked() -> None:
    body = """
      mov.u32 %w0, 0x12345678;
      mov.u32 %w1, 0x9ABCDEF0;
      mov.b64 %d0, {%w0, %w1};
      { .reg .b32 %w<3>; .reg .b32 tmp; mov.b64 {tmp, %w2}, %d0; st.global.u32 [%d10+8], %w2; }
      mov.b64 {%w4, _}, %d0;
      mov.b32 {%h0, %h1}, %w0;
      mov.b32 %w5, {%h1, %h0};
      st.global.v2.u32 [%d10+16], {%w4, %w5};
      st.global.u64 [%d10], %d0;
      st.global.u32 [%d10+12], %w1;
    """
    out = np.zeros(6, np.uint32)
    written(body).run((1,), (1,), [out])
    assert [hex(x) for x in out] == [
        "0x12345678", "0x9abcdef0", "0x9abcdef0", "0x9abcdef0", "0x12345678", "0x56781234",
    ]  # fmt: skip


def test_narrow_cells_are_extended_as_their_type_says() -> None:
    data = fixed(np.array([0x80FF, 0xFFFE], np.uint16))
    body = """
      ld.global.u8 %h0, [%d10];       cvt.u32.u16 %w0, %h0;
      ld.global.s8 %h1, [%d10+1];     cvt.u32.u16 %w1, %h1;
      ld.global.s16 %w2, [%d10+2];
      ld.global.u16 %h3, [%d10+2];    cvt.u32.u16 %w3, %h3;
      st.global.v4.u32 [%d11], {%w0, %w1, %w2, %w3};
      st.global.u8 [%d11+16], %h0;
      st.global.u16 [%d11+18], %h3;
    """
    out = np.zeros(5, np.uint32)
    buffer = Buffer(out, initialised=False)
    written(body, 2).run((1,), (1,), [data, buffer])
    assert [hex(x) for x in out] == ["0xff", "0xff80", "0xfffffffe", "0xfffe", "0xfffe00ff"]
    assert buffer.written.tolist() == [True] * 4 + [False]


def test_a_guard_spares_threads_and_memory() -> None:
    body = """
      mov.u32 %w0, %tid.x;
      mul.wide.u32 %d0, %w0, 4;
      add.s64 %d1, %d11, %d0;
      setp.lt.u32 %p0, %w0, 5;
      mov.u32 %w1, 100;
      @%p0 mov.u32 %w1, 7;
      @!%p0 add.s64 %d0, %d0, 1000000000;
      add.s64 %d0, %d10, %d0;
      @%p0 ld.global.u32 %w1, [%d0];
      st.global.u32 [%d1], %w1;
      @%p0 ret;
      st.global.u32 [%d1], %w0;
    """
    out = np.zeros(40, np.uint32)
    written(body, 2).run((1,), (40,), [fixed(np.arange(50, 55, dtype=np.uint32)), out])
    assert out.tolist() == [*range(50, 55), *range(5, 40)]


def test_a_load_may_overwrite_its_own_address() -> None:
    data = fixed(np.array([11, 22], np.uint64))
    out = np.zeros(2, np.uint64)
    written("ld.global.v2.u64 {%d10, %d1}, [%d10]; st.global.v2.u64 [%d11], {%d10, %d1};", 2).run(
        (1,), (1,), [data, out]
    )
    assert out.tolist() == [11, 22]


# ---------------------------------------------------------------- kernels as NVRTC compiles them


@pytest.mark.parametrize("warps", ORDERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("m", "n", "k"), [(32, 32, 16), (45, 70, 13), (1, 33, 1)])
def test_tiled_gemm(architecture: str, m: int, n: int, k: int, warps: str) -> None:
    a, b = inputs((m, k), (k, n))
    c = empty(m, n)
    kernel = program(GEMM.replace("BARRIER", "__syncthreads();"), architecture)
    kernel.run((-(-n // 32), -(-m // 32)), (64,), [a, b, c, m, n, k], warps=warps)
    np.testing.assert_allclose(c, np.maximum(a @ b, 0), atol=1e-5)


@pytest.mark.parametrize("warps", ORDERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_double_buffered_gemm_with_vector_loads(architecture: str, warps: str) -> None:
    a, b = inputs((20, 32), (20, 128))
    c = empty(32, 128)
    kernel = program(DOUBLE_BUFFERED, architecture)
    kernel.run((2,), (64,), [a, b, c, 128, 20], warps=warps)
    np.testing.assert_allclose(c, a.T @ b, atol=1e-5)


def test_a_missing_barrier_shows_in_one_of_the_orders() -> None:
    source = """extern "C" __global__ void shift(const float* __restrict__ x, float* y) {
      __shared__ float s[96];
      for (int round = 0; round < 2; ++round) {
        s[threadIdx.x] = x[threadIdx.x] + round;
        __syncthreads();
        y[round * 96 + threadIdx.x] = s[(threadIdx.x + STEP) % 96];
        MISSING
      }
    }"""
    (x,) = inputs((96,))
    for step in (33, 63):
        right = np.stack([np.roll(x, -step), np.roll(x, -step) + 1])
        results = {}
        for missing in ("", "__syncthreads();"):
            kernel = program(source.replace("STEP", str(step)).replace("MISSING", missing))
            for warps in ("forward", "reverse"):
                y = empty(2, 96)
                kernel.run((1,), (96,), [x, y], warps=warps)
                results[missing, warps] = bool(np.array_equal(y, right))
        assert results["__syncthreads();", "forward"]
        assert results["__syncthreads();", "reverse"]
        assert not (results["", "forward"] and results["", "reverse"])


def test_a_barrier_missing_before_the_first_read_is_an_unwritten_read() -> None:
    kernel = program(GEMM.replace("BARRIER", ""))
    a, b = inputs((32, 8), (8, 32))
    for warps in ("forward", "reverse"):
        with pytest.raises(PtxError, match=r"shared array .*tile_., which nothing has written"):
            kernel.run((1,), (64,), [a, b, empty(32, 32), 32, 32, 8], warps=warps)


EXPRESSIONS = {
    "x / 7": lambda x, y: int(x / 7) if abs(x) < 2**52 else None,
    "x % 5": lambda x, y: int(np.fmod(x, 5)),
    "x / -12": lambda x, y: int(x / -12),
    "x % 96": lambda x, y: int(np.fmod(x, 96)),
    "(int)((unsigned)x / 28u)": lambda x, y: (x & 0xFFFFFFFF) // 28,
    "(int)((unsigned)x % 3136u)": lambda x, y: (x & 0xFFFFFFFF) % 3136,
    "x / (y | 1)": lambda x, y: int(x / (y | 1)),
    "(int)((long long)x * y >> 20)": lambda x, y: x * y >> 20,
    "(int)(((long long)x << 13) / 77)": lambda x, y: int(np.trunc(x * 8192 / 77)),
    "__mulhi(x, y)": lambda x, y: x * y >> 32,
    "(int)__umulhi(x, y)": lambda x, y: (x & 0xFFFFFFFF) * (y & 0xFFFFFFFF) >> 32,
    "x >> (y & 31)": lambda x, y: x >> (y & 31),
    "x << (y & 31)": lambda x, y: x << (y & 31),
    "(int)((unsigned short)x % 13)": lambda x, y: (x & 0xFFFF) % 13,
    "(int)((short)x / 9)": lambda x, y: int((((x & 0xFFFF) ^ 0x8000) - 0x8000) / 9),
    "min(max(x, -50), y)": lambda x, y: min(max(x, -50), y),
    "(int)__brev(x) ^ __popc(y) ^ __clz(x)": lambda x, y: (
        int(f"{x & 0xFFFFFFFF:032b}"[::-1], 2) ^ bin(y & 0xFFFFFFFF).count("1") ^ (32 - (x & 0xFFFFFFFF).bit_length())
    ),
    "(int)__byte_perm(x, y, 0x6521)": lambda x, y: int.from_bytes(
        bytes((((y & 0xFFFFFFFF) << 32 | x & 0xFFFFFFFF) >> 8 * i) & 255 for i in (1, 2, 5, 6)), "little"
    ),
    "(int)__funnelshift_l(x, y, 9)": lambda x, y: ((y & 0xFFFFFFFF) << 32 | x & 0xFFFFFFFF) >> 23,
    "(x >> 7) & 63 | (y << 9)": lambda x, y: (x >> 7) & 63 | (y << 9),
    "abs(x) - (x < y ? x : -y)": lambda x, y: abs(x) - (x if x < y else -y),
    "(int)((unsigned char)x) * (signed char)y": lambda x, y: (x & 255) * (((y & 255) ^ 128) - 128),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_integer_arithmetic_as_the_compiler_rewrites_it(architecture: str) -> None:
    stores = "".join(f"out[{i} * 256 + t] = {text};\n" for i, text in enumerate(EXPRESSIONS))
    head = 'extern "C" __global__ void k(const int* __restrict__ a, const int* __restrict__ b, int* out)'
    kernel = program(f"{head} {{ int t = threadIdx.x, x = a[t], y = b[t]; {stores} }}", architecture)
    rng = np.random.default_rng(3)
    x, y = (fixed(rng.integers(-(2**bits), 2**bits, 256).astype(np.int32)) for bits in (31, 17))
    out = np.zeros((len(EXPRESSIONS), 256), np.int32)
    kernel.run((1,), (256,), [x, y, out])
    for row, (text, expression) in zip(out, EXPRESSIONS.items()):
        right = [(expression(int(p), int(q)) + 2**31) % 2**32 - 2**31 for p, q in zip(x, y)]
        assert row.tolist() == right, text


@pytest.mark.parametrize("warps", ORDERS)
def test_threads_that_take_different_ways(warps: str) -> None:
    source = """extern "C" __global__ void collatz(const int* __restrict__ start, int* steps, int limit) {
      int t = blockIdx.x * blockDim.x + threadIdx.x;
      if (t >= limit) return;
      int x = start[t], n = 0;
      while (x != 1) {
        if (x % 2) x = 3 * x + 1;
        else x /= 2;
        if (++n == 70) break;
        if (n % 5 == 3) continue;
        switch (x % 7) { case 0: n += 2; break; case 3: n -= 1; break; case 5: n += x > 50 ? 1 : 0; default: break; }
      }
      steps[t] = n;
    }"""

    def collatz(x: int) -> int:
        n = 0
        while x != 1:
            x = 3 * x + 1 if x % 2 else x // 2
            n += 1
            if n == 70:
                break
            if n % 5 != 3:
                n += {0: 2, 3: -1, 5: int(x > 50)}.get(x % 7, 0)
        return n

    start = fixed(np.arange(1, 101, dtype=np.int32))
    steps = np.zeros(100, np.int32)
    program(source).run((2,), (77,), [start, steps, 100], warps=warps)
    assert steps.tolist() == [collatz(int(x)) for x in start]


def test_local_arrays_with_indices_known_at_run_time() -> None:
    source = """extern "C" __global__ void sort(const float* __restrict__ x, float* y, int n) {
      float own[12];
      for (int i = 0; i < n; ++i) own[i] = x[threadIdx.x * n + i];
      for (int i = 1; i < n; ++i)
        for (int j = i; j > 0 && own[j - 1] > own[j]; --j) { float t = own[j]; own[j] = own[j - 1]; own[j - 1] = t; }
      for (int i = 0; i < n; ++i) y[threadIdx.x * n + i] = own[i];
    }"""
    (x,) = inputs((50, 11))
    for warps in ORDERS:
        y = empty(50, 11)
        program(source).run((1,), (50,), [x, y, 11], warps=warps)
        np.testing.assert_array_equal(y, np.sort(x))
    with pytest.raises(PtxError, match=r"byte 48 of local array __local_depot\d, which has 48 bytes"):
        program(source).run((1,), (50,), [*inputs((50, 13)), empty(50, 13), 13])


def test_several_kernels_share_what_they_have_written() -> None:
    source = """
    extern "C" __global__ void first(const float* __restrict__ x, float* y) { y[threadIdx.x] = 2.f * x[threadIdx.x]; }
    extern "C" __global__ void second(const float* __restrict__ x, float* y) { y[threadIdx.x] = x[threadIdx.x] + 1.f; }
    """
    functions = compiled(source).functions
    (x,) = inputs((40,))
    between, y = Buffer(empty(40)), empty(40)
    execute(functions["first"], (1,), (30,), [x, between])
    assert between.written.tolist() == [True] * 30 + [False] * 10
    execute(functions["second"], (1,), (30,), [between, y])
    np.testing.assert_array_equal(y[:30], 2 * x[:30] + 1)
    with pytest.raises(PtxError, match=r"thread \(30, 0, 0\) .* reads 4 bytes at byte 120 of argument 0"):
        execute(functions["second"], (1,), (31,), [between, y])


def test_coordinates_scalars_dynamic_shared_memory_and_chosen_blocks() -> None:
    source = """extern "C" __global__ void where(float* out, float scale, long long shift) {
      extern __shared__ float own[];
      int t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
      int b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      own[t] = scale * (b * 24 + t);
      __syncthreads();
      out[b * 24 + t + shift] = own[23 - t];
    }"""
    kernel = program(source)
    right = 0.5 * np.arange(24 * 30).reshape(30, 24)[:, ::-1].ravel()
    out = empty(24 * 30)
    kernel.run((2, 3, 5), (4, 3, 2), [out, 0.5, 0], dynamic_shared=96)
    np.testing.assert_array_equal(out, right)
    out = empty(24 * 30 + 2)
    kernel.run((2, 3, 5), (4, 3, 2), [out, 0.5, 2], dynamic_shared=96, blocks=[29, 4])
    assert np.flatnonzero(~np.isnan(out)).tolist() == [*range(98, 122), *range(698, 722)]
    with pytest.raises(PtxError, match=r"shared array own, which has 92 bytes"):
        kernel.run((1,), (4, 3, 2), [out, 0.5, 0], dynamic_shared=92)


def test_functions_of_floats() -> None:
    texts = ["expf(x)", "logf(fabsf(x))", "sqrtf(fabsf(x))", "tanhf(x)", "1.f / x", "rsqrtf(fabsf(x))", "floorf(x)"]
    texts += ["sinf(x)", "cosf(x)", "fminf(x, 0.25f)", "x > 0.f ? x : 0.1f * x", "(float)(int)x", "rintf(x)"]
    stores = "".join(f"out[{i} * 64 + threadIdx.x] = {text};\n" for i, text in enumerate(texts))
    head = 'extern "C" __global__ void k(const float* __restrict__ in, float* out)'
    (x,) = inputs((64,))
    right = [np.exp(x), np.log(abs(x)), np.sqrt(abs(x)), np.tanh(x), 1 / x, 1 / np.sqrt(abs(x)), np.floor(x)]
    right += [np.sin(x), np.cos(x), np.minimum(x, 0.25), np.where(x > 0, x, x / 10), np.trunc(x), np.rint(x)]
    for architecture in ARCHITECTURES:
        out = empty(len(texts), 64)
        program(f"{head} {{ float x = in[threadIdx.x]; {stores} }}", architecture).run((1,), (64,), [x, out])
        np.testing.assert_allclose(out, right, rtol=2e-6, atol=2e-6)


# ---------------------------------------------------------------- what must be refused


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ld.global.f32 %w0, [%d10+64];", r"reads 4 bytes at byte 64 of argument 0, which has 64 bytes"),
        ("ld.global.f32 %w0, [%d10+-4];", r"reads 4 bytes 4 bytes before the start of argument 0"),
        ("ld.global.v4.f32 {%w0,%w1,%w2,%w3}, [%d10+8];", r"byte 8 of argument 0, which is no multiple of 16"),
        ("ld.global.v2.f32 {%w0,%w1}, [%d10+60];", r"byte 60 of argument 0, which has 64 bytes"),
        ("st.global.f32 [%d10], %w0;", r"writes 4 bytes at byte 0 of argument 0, which is an input"),
        ("ld.global.u8 %h0, [%d11+5];", r"reads 1 bytes at byte 5 of argument 1, which nothing has written"),
        ("st.global.u8 [%d11+4], 1; ld.global.u16 %h0, [%d11+4];", r"byte 4 of argument 1, which nothing has written"),
        ("ld.global.f32 %w0, [0];", r"at address 0x0, where no array is"),
        ("add.s64 %d1, %d10, 0x8000000000; ld.global.f32 %w0, [%d1];", r"argument 1"),
        ("mov.u64 %d1, own; ld.global.f32 %w0, [%d1];", r"byte 0 of shared array own, which is not allowed"),
        ("ld.shared.f32 %w0, [own];", r"byte 0 of shared array own, which nothing has written"),
        ("st.shared.f32 [own+16], 0f3F800000;", r"byte 16 of shared array own, which has 16 bytes"),
        ("mov.u32 %w0, 0; div.u32 %w1, %w0, %w0;", r"divides by zero"),
        ("again: bra again;", r"has not ended after 1000 instructions"),
    ],
)
def test_a_fault_names_the_instruction_the_thread_and_the_array(body: str, message: str) -> None:
    kernel = written(body, 2, ".shared .align 16 .b8 own[16];")
    head = r"line \d+ of kernel kernel, '.*': thread \(0, 0, 0\) of block \(1, 0, 0\) "
    (data,) = inputs((16,))
    with pytest.raises(PtxError, match=head + ".*" + message) as caught:
        kernel.run((2,), (1,), [data, empty(4)], blocks=[1], max_steps=1000)
    assert body.split(";")[-2].split(":")[-1].strip().split()[0] in str(caught.value)


def test_the_first_thread_at_fault_is_named() -> None:
    source = """extern "C" __global__ void k(const float* __restrict__ x, float* y) {
      int t = threadIdx.y * blockDim.x + threadIdx.x;
      if (t != 40) y[t] = x[t + (t > 70)];
    }"""
    (x,) = inputs((81,))
    with pytest.raises(
        PtxError, match=r"thread \(0, 8, 0\) of block \(0, 0, 0\) reads 4 bytes at byte 324 of argument 0"
    ):
        program(source).run((1,), (10, 9), [x, empty(90)])


def test_lanes_in_different_arrays_are_served_one_by_one() -> None:
    source = """extern "C" __global__ void k(const float* __restrict__ a, const float* __restrict__ b, float* y) {
      y[threadIdx.x] = (threadIdx.x % 3 ? a : b)[threadIdx.x];
    }"""
    a, b = inputs((60,), (60,))
    y = empty(60)
    program(source).run((1,), (60,), [a, b, y])
    np.testing.assert_array_equal(y, np.where(np.arange(60) % 3, a, b))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("@%p0 bra out; bar.sync 0; out: ret;", r"'bar.sync 0': thread \(3, 0, 0\) .* has ended while 61 threads wait"),
        ("@%p0 bra else; bar.sync 0; ret; else: bar.sync 0;", r"waits elsewhere \(line \d+ .* 'bar.sync 0'\)"),
    ],
)
@pytest.mark.parametrize("warps", ORDERS)
def test_a_barrier_that_not_all_threads_reach(body: str, message: str, warps: str) -> None:
    kernel = written(f"mov.u32 %w0, %tid.x; setp.lt.u32 %p0, %w0, 3; setp.ge.u32 %p1, %w0, 0; {body}")
    message = message.replace("(3,", "(0,")
    with pytest.raises(PtxError, match=message):
        kernel.run((1,), (64,), [empty(1)], warps=warps)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frob.s32 %w0, %w1;", "the instruction 'frob.s32' is not known in 'frob.s32 %w0, %w1'"),
        ("add.sat.s32 %w0, %w1, %w2;", "the instruction 'add.sat.s32' is not known"),
        ("fma.rz.f32 %w0, %w1, %w2, %w3;", "the instruction 'fma.rz.f32' is not known"),
        ("add.f64 %d0, %d1, %d2;", "the instruction 'add.f64' is not known"),
        ("ld.global.L1::no_allocate.f32 %w0, [%d10];", "is not known"),
        ("atom.global.add.u32 %w0, [%d10], 1;", "the instruction 'atom.global.add.u32' is not known"),
        ("add.s32 %w0, %w1;", "2 operands are not known"),
        ("add.s32 %w0, %w1, %d1;", "the width of operand '%d1' does not fit"),
        ("add.s32 %d0, %w1, %w1;", "a result of this form is not known"),
        ("mov.u32 %w0, %clock;", "the register '%clock' is not known"),
        ("mov.u32 %w0, nothing;", "'nothing' is no variable"),
        ("bra nowhere;", "the label 'nowhere' does not exist"),
        ("bar.sync 0, 32;", "a barrier of this form is not known"),
        ("ld.global.f32 %w0, [%w1];", "a 32-bit address is not known"),
        ("ld.global.v2.f32 {%w0, %w1, %w2}, [%d10];", "the number of values is not 2"),
        ("ld.param.u32 %w0, [p0];", "a parameter of this form is not known"),
        ("setp.eq.s32 %p0|%p1, %w0, %w1;", "has an operand that is not understood: '%p0|%p1'"),
        ("call foo;", "the instruction 'call' is not known"),
        ("= 3;", "is not understood: '= 3;'"),
        (".global .align 4 .b8 table[16];", "is not understood: '.global"),
    ],
)
def test_what_is_not_known_is_named_with_its_line(line: str, message: str) -> None:
    text = ptx(f"\n  {line}\n")
    number = next(i for i, each in enumerate(text.split("\n"), 1) if each.strip() == line)
    with pytest.raises(PtxError) as caught:
        Program(parse(text).functions["kernel"])
    assert message in str(caught.value)
    assert f"line {number} of" in str(caught.value)


def test_a_launch_that_does_not_fit_is_refused() -> None:
    kernel = program(GEMM.replace("BARRIER", "__syncthreads();"))
    a, b = inputs((32, 8), (8, 32))
    right = [a, b, empty(32, 32), 32, 32, 8]
    with pytest.raises(PtxError, match="takes 6 arguments, not 5"):
        kernel.run((1,), (64,), right[:5])
    with pytest.raises(PtxError, match="at most 64 threads in a block, not 65"):
        kernel.run((1,), (65,), right)
    with pytest.raises(PtxError, match="block 1 does not exist in a grid of 1 blocks"):
        kernel.run((1,), (64,), right, blocks=[1])
    with pytest.raises(PtxError, match="a grid has one to three sizes of at least 1"):
        kernel.run((0,), (64,), right)
    with pytest.raises(PtxError, match="'forward', 'reverse' or 'together', not 'sideways'"):
        kernel.run((1,), (64,), right, warps="sideways")  # type: ignore[arg-type]
    with pytest.raises(PtxError, match="C-contiguous"):
        kernel.run((1,), (64,), [a.T, *right[1:]])
    with pytest.raises(PtxError, match="argument 3 of kernel gemm is a number, not an array"):
        kernel.run((1,), (64,), [*right[:3], a, 32, 8])


def test_a_block_takes_a_few_milliseconds() -> None:
    """A twentieth of 1.5 s is the slowest that is allowed; it takes about 3 ms."""
    kernel = program(GEMM.replace("BARRIER", "__syncthreads();"))
    a, b = inputs((32, 512), (512, 32))
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        kernel.run((1,), (64,), [a, b, empty(32, 32), 32, 32, 512])
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.075


def test_a_vector_may_reach_into_what_fills_a_shared_array_up_to_its_alignment() -> None:
    """NVRTC loads four floats where the last three of an aligned array are wanted."""
    body = """
      .shared .align 16 .b8 tile[12];
      mov.u64 %d0, tile;
      mov.u32 %w0, 7;
      st.shared.v2.u32 [%d0], {%w0, %w0};
      st.shared.u32 [%d0+8], %w0;
      ld.shared.v4.u32 {%w1, %w2, %w3, %w4}, [%d0];
      st.global.u32 [%d10], %w3;
    """
    out = np.zeros(1, np.uint32)
    written(body).run((1,), (1,), [out])
    assert out[0] == 7
    with pytest.raises(PtxError, match="reads 4 bytes at byte 16 of shared array tile, which has 16 bytes"):
        written(body.replace("ld.shared.v4.u32 {%w1, %w2, %w3, %w4}, [%d0]", "ld.shared.u32 %w3, [%d0+16]")).run(
            (1,), (1,), [out]
        )

"""Kernels in CUDA C and in PTX that the interpreter's tests run."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from wpk_envs.devices.cuda.toolchain import compile_source
from wpk_envs.devices.ptx import Module, Program, parse

ARCHITECTURES = ("sm_60", "sm_90")

GEMM = r"""
extern "C" __global__ void __launch_bounds__(64) gemm(const float* __restrict__ a, const float* __restrict__ b,
                                                      float* __restrict__ c, int m, int n, int k) {
  __shared__ float tile_a[8][32], tile_b[8][32];
  int tx = threadIdx.x % 8, ty = threadIdx.x / 8;
  float sum[4][4] = {};
  for (int start = 0; start < k; start += 8) {
    for (int i = threadIdx.x; i < 256; i += 64) {
      int row = blockIdx.y * 32 + i / 8, depth = start + i % 8;
      tile_a[i % 8][i / 8] = row < m && depth < k ? a[row * k + depth] : 0.f;
      int column = blockIdx.x * 32 + i % 32;
      depth = start + i / 32;
      tile_b[i / 32][i % 32] = column < n && depth < k ? b[depth * n + column] : 0.f;
    }
    BARRIER
    for (int d = 0; d < 8; ++d)
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) sum[i][j] += tile_a[d][ty * 4 + i] * tile_b[d][tx * 4 + j];
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) {
      int row = blockIdx.y * 32 + ty * 4 + i, column = blockIdx.x * 32 + tx * 4 + j;
      if (row < m && column < n) c[row * n + column] = fmaxf(sum[i][j], 0.f);
    }
}
"""

DOUBLE_BUFFERED = r"""
extern "C" __global__ void __launch_bounds__(64) gemm(const float* __restrict__ a, const float* __restrict__ b,
                                                      float* __restrict__ c, int n, int k) {
  __shared__ float4 tile_a[2][4][8], tile_b[2][4][16];  // a is stored transposed: [k][32], b: [k][n]
  int t = threadIdx.x, tx = t % 8, ty = t / 8, m = 32;
  float sum[4][8] = {};
  float4 next_b = ((const float4*)(b + (t / 16) * n + blockIdx.x * 64))[t % 16], next_a;
  if (t < 32) next_a = ((const float4*)(a + (t / 8) * m))[t % 8];
  for (int start = 0, now = 0; start < k; start += 4, now ^= 1) {
    tile_b[now][t / 16][t % 16] = next_b;
    if (t < 32) tile_a[now][t / 8][t % 8] = next_a;
    __syncthreads();
    if (start + 4 < k) {
      next_b = ((const float4*)(b + (start + 4 + t / 16) * n + blockIdx.x * 64))[t % 16];
      if (t < 32) next_a = ((const float4*)(a + (start + 4 + t / 8) * m))[t % 8];
    }
    for (int d = 0; d < 4; ++d) {
      float x[4], y[8];
      *(float4*)x = tile_a[now][d][ty];
      *(float4*)y = tile_b[now][d][tx];
      *(float4*)(y + 4) = tile_b[now][d][tx + 8];
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 8; ++j) sum[i][j] += x[i] * y[j];
    }
  }
  for (int i = 0; i < 4; ++i)
    for (int h = 0; h < 2; ++h)
      *(float4*)(c + (ty * 4 + i) * n + blockIdx.x * 64 + h * 32 + tx * 4) = *(float4*)(sum[i] + 4 * h);
}
"""

PTX = """
.version 8.8
.target sm_60
.address_size 64
.visible .entry kernel({parameters})
{{
  .reg .pred %p<9>;
  .reg .b16 %h<9>;
  .reg .b32 %w<9>;
  .reg .b64 %d<20>;
{declarations}
{body}
  ret;
}}
"""


@lru_cache(maxsize=64)
def compiled(source: str, architecture: str = "sm_60") -> Module:
    """The PTX of a CUDA source."""
    return parse(compile_source(source, architecture).ptx)


def program(source: str, architecture: str = "sm_60", name: str | None = None) -> Program:
    """A kernel of a CUDA source, the only one if no name is given."""
    functions = compiled(source, architecture).functions
    return Program(functions[name] if name else next(iter(functions.values())))


def ptx(body: str, parameters: int = 1, declarations: str = "") -> str:
    """A PTX text with one kernel, whose parameters p0, p1, ... are pointers in %d10, %d11, ..."""
    names = ", ".join(f".param .u64 p{i}" for i in range(parameters))
    loads = "".join(f"  ld.param.u64 %d{10 + i}, [p{i}];\n" for i in range(parameters))
    return PTX.format(parameters=names, declarations=declarations, body=loads + body)


def written(body: str, parameters: int = 1, declarations: str = "") -> Program:
    """A kernel of hand-written PTX."""
    return Program(parse(ptx(body, parameters, declarations)).functions["kernel"])


def fixed(array: np.ndarray) -> np.ndarray:
    """An input: a copy that no kernel may write."""
    array = array.copy()
    array.flags.writeable = False
    return array


def inputs(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Random inputs."""
    rng = np.random.default_rng(7)
    return [fixed(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]


def empty(*shape: int) -> np.ndarray:
    """An output: NaN until it is written."""
    return np.full(shape, np.nan, np.float32)

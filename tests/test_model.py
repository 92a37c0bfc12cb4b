"""The model of a GPU's time: it must move in the right direction when one thing about a kernel changes."""

import dataclasses

import numpy as np
import pytest

from wpk_envs.core import Argument
from wpk_envs.devices.cuda.build import Build, build
from wpk_envs.devices.cuda.descriptions import describe
from wpk_envs.devices.cuda.program import Launch, Program
from wpk_envs.devices.cuda.toolchain import compile_source
from wpk_envs.devices.predicted.confidence import (
    FEW_BLOCKS,
    HIGH,
    L1_RELIANT,
    LOCAL_MEMORY,
    LOW_OCCUPANCY,
    confidence_of,
)
from wpk_envs.devices.predicted.constants import ARCHITECTURES
from wpk_envs.devices.predicted.occupancy import occupancy
from wpk_envs.devices.predicted.predictor import estimates_of, latency_us, predict, roofline_us
from wpk_envs.operators import Gemm
from wpk_envs.packing import Packing
from wpk_envs.schedules import build_space

P100, H200 = describe("p100"), describe("h200")
ELEMENTS = 1 << 22

SHARED = """
extern "C" __global__ void __launch_bounds__(256) NAME(const float* __restrict__ a, float* __restrict__ b) {
  __shared__ float tile[EXTRA + 256 * 9];
  int t = threadIdx.x;
  float sum = 0.f;
  for (int step = 0; step < STEPS; ++step) {
    tile[t * STRIDE % (256 * 9)] = a[(blockIdx.x * 256 + t * SPREAD + step * 65536) & (ELEMENTS - 1)];
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < 8; ++i) sum = fmaf(tile[(t * STRIDE + i) % (256 * 9)], 1.5f, sum);
    __syncthreads();
  }
  b[blockIdx.x * 256 + t] = sum;
}
"""


def kernel(source, blocks, threads=256, device=P100, **values):
    """A built program of one launch; words in capitals in the source are replaced."""
    given = {"NAME": "kernel", "STRIDE": 9, "SPREAD": 1, "STEPS": 64, "EXTRA": 0, "ELEMENTS": ELEMENTS} | values
    for word, value in given.items():
        source = source.replace(word, str(value))
    compiled = compile_source(source, str(device.target["arch"]))
    arguments = (Argument("a", (ELEMENTS,), "N", Packing()), Argument("output", (ELEMENTS,), "N", Packing()))
    launch = Launch(given["NAME"], (blocks, 1, 1), (threads, 1, 1), ("a", "output"))
    program = Program(str(device.target["arch"]), compiled.cubin, (launch,), arguments, {}, compiled.resources)
    return Build(program, source, compiled.ptx)


def microseconds(built, device=P100):
    (estimate,) = estimates_of(built, device)
    return estimate.microseconds


def test_what_does_not_matter_does_not_change_anything():
    """The name of a kernel; where its buffers lie cannot even be said."""
    assert microseconds(kernel(SHARED, 560)) == microseconds(kernel(SHARED, 560, NAME="another_name"))
    assert microseconds(kernel(SHARED, 560)) == microseconds(kernel(SHARED, 560))


def test_bank_conflicts_cost():
    without, with_conflicts = (microseconds(kernel(SHARED, 560, STRIDE=stride)) for stride in (9, 8))
    assert with_conflicts > 2 * without


def test_broken_coalescing_costs():
    together, apart = (microseconds(kernel(SHARED, 560, SPREAD=spread)) for spread in (1, 32))
    assert apart > 1.1 * together


def test_half_the_occupancy_costs_what_it_hid():
    """Shared memory that is not used takes the place of other blocks."""
    (whole,) = estimates_of(kernel(SHARED, 560, EXTRA=1700), P100)
    (half,) = estimates_of(kernel(SHARED, 560, EXTRA=5500), P100)
    assert (whole.occupancy.blocks, half.occupancy.blocks) == (4, 2)
    assert half.microseconds > 1.2 * whole.microseconds


def test_twice_the_blocks_take_longer_and_half_of_them_less_but_not_less_than_half():
    times = [microseconds(kernel(SHARED, blocks)) for blocks in (560, 1120, 2240)]
    assert times[0] < times[1] < times[2]
    assert times[2] == pytest.approx(2 * times[1], rel=0.2)
    assert microseconds(kernel(SHARED, 28)) == microseconds(kernel(SHARED, 56))  # half of the GPU is idle then


UNROLLED = """
extern "C" __global__ void __launch_bounds__(256, MINIMUM) NAME(const float* __restrict__ a, float* __restrict__ b) {
  __shared__ float tile[1024];
  for (int i = threadIdx.x; i < 1024; i += 256) tile[i] = a[i];
  __syncthreads();
  float x[WIDTH];
  #pragma unroll
  for (int i = 0; i < WIDTH; ++i) x[i] = tile[(threadIdx.x + i) & 1023];
  for (int step = 0; step < 64; ++step) {
    #pragma unroll
    for (int i = 0; i < WIDTH; ++i) x[i] = fmaf(x[i], x[(i + 1) % WIDTH], tile[(step + i) & 1023]);
  }
  float sum = 0.f;
  #pragma unroll
  for (int i = 0; i < WIDTH; ++i) sum += x[i];
  b[blockIdx.x * 256 + threadIdx.x] = sum;
}
"""


def test_an_unroll_that_spills_costs_more_than_its_work_and_is_of_low_confidence():
    narrow, wide = (kernel(UNROLLED, 560, WIDTH=width, MINIMUM=8) for width in (8, 64))
    assert narrow.program.spill_bytes == 0 < wide.program.spill_bytes
    (slim,), (spilling,) = estimates_of(narrow, P100), estimates_of(wide, P100)
    assert confidence_of([slim], 56) == HIGH
    assert confidence_of([spilling], 56) == LOCAL_MEMORY
    with_room = kernel(UNROLLED, 560, WIDTH=64, MINIMUM=1)
    (roomy,) = estimates_of(with_room, P100)
    assert with_room.program.spill_bytes == 0
    assert spilling.float_operations == roomy.float_operations
    assert spilling.microseconds > 8 * slim.microseconds  # the work alone is 8 times as much
    bare = dataclasses.replace(wide.program.resources["kernel"], spill_bytes=0)
    without = dataclasses.replace(wide, program=dataclasses.replace(wide.program, resources={"kernel": bare}))
    assert spilling.microseconds > estimates_of(without, P100)[0].microseconds


def test_levels_tell_the_regimes_apart():
    (few,) = estimates_of(kernel(SHARED, 20), P100)
    assert confidence_of([few], 56) == FEW_BLOCKS
    (single,) = estimates_of(kernel(SHARED.replace("256)", "32)"), 560, threads=32), P100)
    assert confidence_of([dataclasses.replace(single, shared=True)], 56) == LOW_OCCUPANCY
    direct = """
    extern "C" __global__ void NAME(const float* __restrict__ a, float* __restrict__ b) {
      float sum = 0.f;
      for (int i = 0; i < 64; ++i) sum += a[(blockIdx.x * 256 + threadIdx.x + i) & (ELEMENTS - 1)];
      b[blockIdx.x * 256 + threadIdx.x] = sum;
    }"""
    (reading,) = estimates_of(kernel(direct, 560), P100)
    assert confidence_of([reading], 56) == L1_RELIANT


def test_a_newer_gpu_is_faster():
    assert microseconds(kernel(SHARED, 5600, device=H200), H200) < microseconds(kernel(SHARED, 5600))


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "blocks", "limit"),
    [
        (256, 32, 0, 8, "threads"),
        (256, 64, 0, 4, "registers"),
        (256, 33, 0, 6, "registers"),  # 33 x 32 registers of a warp are allocated as 1280
        (32, 16, 0, 32, "blocks"),
        (128, 32, 16384, 4, "shared memory"),
        (128, 32, 16385, 3, "shared memory"),
        (1024, 65, 0, 0, "registers"),
    ],
)
def test_occupancy_is_that_of_nvidias_calculator_on_a_p100(threads, registers, shared, blocks, limit):
    found = occupancy(threads, registers, shared, P100, ARCHITECTURES["sm_60"])
    assert (found.blocks, found.limit) == (blocks, limit)


def test_blocks_of_ampere_and_newer_reserve_shared_memory():
    """227 KB of a Hopper multiprocessor hold four blocks of 55 KB, each with 1 KB more for the system."""
    assert occupancy(128, 32, 56 << 10, H200, ARCHITECTURES["sm_90"]).blocks == (228 << 10) // (57 << 10)


def test_a_candidate_s_prediction_explains_itself():
    space = build_space(Gemm(m=512, n=512, k=512), P100)
    candidate = space.candidate(space.sample(np.random.default_rng(1)))
    prediction, built = predict(candidate, P100), build(candidate, P100)
    estimates = estimates_of(built, P100)
    assert prediction.predicted_latency_us == latency_us(estimates)
    assert prediction.samples_us == ()
    assert prediction.latency_us is None
    assert prediction.confidence == confidence_of(estimates, 56)
    assert prediction.details["roofline_us"] == roofline_us(estimates, P100) < prediction.predicted_latency_us
    assert predict(candidate, P100).predicted_latency_us == prediction.predicted_latency_us


def test_an_architecture_without_constants_is_a_sentence():
    from wpk_envs.devices.predicted.predictor import architecture_of
    from wpk_envs.errors import UserError

    unknown = dataclasses.replace(P100, target={**P100.target, "arch": "sm_120"})
    with pytest.raises(UserError, match="unknown architecture for predictions 'sm_120'"):
        architecture_of(unknown)

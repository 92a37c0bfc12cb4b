"""Checking and timing kernels on a scripted GPU: what is wrong with them is found, and how they are sampled."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests import scripted_gpu
from tests.scripted_gpu import FLUSH_US, GRAPH_US, OPERATOR, PROPERTIES, ScriptedGpu, product, program
from wpk_envs.core import Measurement
from wpk_envs.devices import timing as cpu_timing
from wpk_envs.devices.cuda import timing
from wpk_envs.devices.cuda.bench import GUARD, GpuBench
from wpk_envs.devices.cuda.gpu import GpuInfo, check_toolchain, runs_on
from wpk_envs.devices.cuda.jobs import Job, MeasureJob, ceilings_of
from wpk_envs.devices.cuda.race import race
from wpk_envs.devices.cuda.server import GpuServer
from wpk_envs.devices.cuda.timing import Stopwatch, Timed
from wpk_envs.devices.messages import Last, RaceBaselines
from wpk_envs.errors import UserError
from wpk_envs.vendors import cudnn
from wpk_envs.vendors.path import VendorPath

PLAIN = "torch mm nn"


def request(kernel: str = "product", baseline: str = "", **fields) -> MeasureJob:
    settings = {"operator": OPERATOR, "program": program(kernel), "tolerance": 1e-5, "executed_flops": 240.0}
    repeats = fields.pop("repeats", None)
    job = Job(**{**settings, **fields})
    return MeasureJob(job, baseline, ceilings_of(PROPERTIES), repeats)


def measured(kernel: str = "product", gpu: ScriptedGpu | None = None, **fields) -> Measurement:
    return GpuBench(gpu or ScriptedGpu(), "cold").measure(request(kernel, **fields))


class TestChecking:
    def test_a_right_kernel_is_timed_and_what_is_known_of_it_kept(self):
        result = measured(baseline=PLAIN, build_seconds=1.5)
        assert result.error is None, result.message
        assert set(result.samples_us) == {100.0}
        assert result.baseline_name == PLAIN
        assert result.layouts == {"a": "MK", "b": "KN", "output": "MN"}
        assert result.max_error < 1e-6
        assert result.build_seconds == 1.5
        assert result.measure_seconds > 0
        expected = {"registers": 24, "spill_bytes": 8, "protocol": "cold", "sm_clock_mhz": 990, "hot_us": 51.0}
        assert expected.items() <= result.details.items()

    @pytest.mark.parametrize(("buffer", "place"), [("output", -GUARD), ("output", -1), ("a", 0), ("b", GUARD - 1)])
    def test_writing_just_outside_of_a_buffer_is_found(self, buffer, place):
        def stray(buffers):
            product(buffers)
            buffers[buffer].base[place] = 0.0

        result = measured("stray", ScriptedGpu(stray=stray))
        assert result.error == "crash"
        where = "before" if 0 <= place < GUARD else "behind"
        assert result.message == f"the kernel wrote out of bounds, {where} its buffer {buffer}"

    def test_writing_outside_only_later_is_found_too(self):
        calls = []

        def late(buffers):
            product(buffers)
            calls.append(1)
            if len(calls) == 5:
                buffers["output"].base[0] = 0.0

        assert "out of bounds" in measured("late", ScriptedGpu(late=late)).message

    def test_a_workspace_must_not_be_expected_to_be_zero(self):
        def sums(buffers):
            buffers["sum"] += 1
            product(buffers)
            buffers["output"] *= buffers["sum"][0]

        result = measured("sums", ScriptedGpu(sums=sums), program=program("sums", sum=3))
        assert result.error == "wrong_result"
        assert "24 of 24 output elements were never written" in result.message

    def test_a_kernel_that_is_right_only_once_is_wrong(self):
        def spoils(buffers):
            product(buffers)
            buffers["a"] += 1

        assert measured("spoils", ScriptedGpu(spoils=spoils)).error == "wrong_result"

    def test_a_kernel_that_leaves_its_output_alone_does_not_pass_on_the_last_result(self):
        calls = []

        def once(buffers):
            calls.append(1)
            if len(calls) == 1:
                product(buffers)

        assert "never written" in measured("once", ScriptedGpu(once=once)).message

    def test_faster_than_the_gpu_can_be(self):
        result = measured(executed_flops=1e12)
        assert result.error == "wrong_result"
        assert "would execute 10000000 GFLOP/s where the peak is 256" in result.message
        assert result.max_error is not None

    def test_images_are_unloaded_whatever_happens(self):
        gpu = ScriptedGpu()
        bench = GpuBench(gpu, "cold")
        bench.measure(request())
        bench.measure(request(tolerance=1e-12))
        assert gpu.log.count("load") == gpu.log.count("unload") == 2

    def test_a_lack_of_memory_is_a_crash_that_says_so(self):
        gpu = ScriptedGpu()
        bench = GpuBench(gpu, "cold")

        def full(elements):
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

        gpu.allocate = full
        result = bench.measure(request())
        assert result.error == "crash"
        assert result.message.startswith("it ran out of memory")

    def test_without_a_baseline_the_speedup_is_missing(self):
        result = measured()
        assert result.samples_us
        assert result.speedup is None
        assert (result.baseline_us, result.baseline_name) == ((), "")


class TestServer:
    def serve(self, gpu: ScriptedGpu, asked, monkeypatch, **settings):
        monkeypatch.setattr(scripted_gpu, "made", lambda index: gpu, raising=False)
        server = GpuServer("tests.scripted_gpu:made", 3, settings.get("protocol", "cold"), settings.get("tf32", False))
        return server.serve(asked)

    def test_a_measurement_says_on_which_gpu(self, monkeypatch):
        assert self.serve(ScriptedGpu(), request(), monkeypatch).details["gpu"] == 3

    def test_a_kernel_that_breaks_the_gpu_is_the_last_of_its_process(self, monkeypatch):
        def breaks(buffers):
            raise RuntimeError("CUDA error: unspecified launch failure")

        reply = self.serve(ScriptedGpu(breaks=breaks), request("breaks"), monkeypatch)
        assert isinstance(reply, Last)
        assert reply.reply.error == "crash"
        assert "unspecified launch failure" in reply.reply.message

    def test_a_baseline_that_breaks_the_gpu_does_too(self, monkeypatch):
        gpu = ScriptedGpu()

        def breaks(*arguments, **options):
            gpu.error = RuntimeError("CUDA error: an illegal memory access was encountered")
            raise gpu.error

        monkeypatch.setattr(cudnn, "paths", breaks)
        reply = self.serve(gpu, request(baseline=PLAIN), monkeypatch)
        assert isinstance(reply, Last)
        assert reply.reply.error == "crash"

    def test_tf32_is_raced_beside_float32_and_never_the_baseline(self, monkeypatch):
        real = cudnn.paths

        def faster(operator, inputs, device, tf32=False, only=None):
            found = real(operator, inputs, device, tf32=tf32, only=only)
            return [VendorPath("rounded", found[0].run, found[0].to_canonical)] if tf32 else found

        monkeypatch.setattr(cudnn, "paths", faster)
        baseline = self.serve(ScriptedGpu(), RaceBaselines(OPERATOR), monkeypatch, tf32=True)
        assert baseline.name != "rounded"
        assert baseline.details().keys() == {"tf32_baseline", "tf32_baseline_us"}
        assert baseline.tf32_name == "rounded"
        assert self.serve(ScriptedGpu(), RaceBaselines(OPERATOR), monkeypatch).details() == {}

    def test_a_protocol_that_the_gpu_lacks_is_refused(self, monkeypatch):
        gpu = ScriptedGpu()
        gpu.protocols = ("cold",)
        gpu.info = dataclasses.replace(gpu.info, no_vendor="torch has no kernels for sm_60")
        with pytest.raises(UserError, match=r"'hot' needs torch's kernels: torch has no .* or use 'cold'"):
            self.serve(gpu, request(), monkeypatch, protocol="hot")


class TestRace:
    def test_wrong_paths_are_dropped_and_the_rest_ranked(self, monkeypatch):
        gpu = ScriptedGpu()
        inputs = OPERATOR.random_inputs(np.random.default_rng())

        def path(name: str, latency_us: float, factor: float = 1.0) -> VendorPath:
            def run() -> np.ndarray:
                gpu.now_us += latency_us
                return factor * OPERATOR.reference(inputs)

            return VendorPath(name, run, lambda out: out)

        offered = [path("plain", 40), path("fast", 30), path("wrong", 1, 1.01), path("slow", 90)]
        monkeypatch.setattr(cudnn, "paths", lambda *arguments, **options: offered)
        monkeypatch.setattr(type(OPERATOR), "random_inputs", lambda self, rng: inputs)
        found = race(OPERATOR, Stopwatch(gpu), "cold")
        assert (found.name, found.latency_us) == ("fast", 30.0)
        assert (found.plain_name, found.plain_latency_us) == ("plain", 40.0)
        assert found.latencies_us == {"plain": 40.0, "fast": 30.0, "slow": 90.0}
        assert "wrong by 1.0e-02" in found.dropped["wrong"]

    def test_a_gpu_without_a_vendor_says_why(self):
        gpu = ScriptedGpu()
        gpu.info = dataclasses.replace(gpu.info, no_vendor="torch has no kernels for sm_60")
        with pytest.raises(UserError, match="torch has no kernels for sm_60"):
            race(OPERATOR, Stopwatch(gpu), "cold")


class TestTiming:
    def timed(self, gpu: ScriptedGpu, name: str, latency_us: float) -> Timed:
        def call() -> None:
            gpu.log.append(name)
            gpu.now_us += latency_us

        timed = Timed(Stopwatch(gpu), call)
        gpu.log.clear()
        return timed

    def test_cold_samples_are_single_calls_right_after_flushes(self):
        gpu = ScriptedGpu()
        a, b = self.timed(gpu, "a", 70.0), self.timed(gpu, "b", 80.0)
        samples = Stopwatch(gpu).interleave([a, b], "cold", 3)
        assert samples == [[70.0] * 3, [80.0] * 3]
        calls = [each for each in gpu.log if each != "flush"]
        assert calls == ["a", "b", "b", "a", "a", "b"], "forwards and backwards in turns"
        assert all(before == "flush" for before, each in zip(gpu.log, gpu.log[1:]) if each != "flush")

    def test_flushes_go_on_for_longer_than_the_host_needs(self, monkeypatch):
        gpu = ScriptedGpu()
        clock = iter(range(10**6))
        monkeypatch.setattr(timing.time, "perf_counter", lambda: 50e-6 * next(clock))  # 50 us a look
        timed = self.timed(gpu, "a", 70.0)
        timed.sample("cold")
        assert gpu.log.count("flush") * FLUSH_US >= timing.AHEAD * 50 > (gpu.log.count("flush") - 1) * FLUSH_US

    def test_hot_samples_are_replays_of_a_graph_that_is_made_once(self):
        gpu = ScriptedGpu(latency_us=0.0)
        timed = self.timed(gpu, "a", 70.0)
        first, second = Stopwatch(gpu).interleave([timed], "hot", 2)[0]
        replays = -(-timing.HOT_SAMPLE_US // 70)
        assert first == second == pytest.approx(70 + GRAPH_US / replays)
        assert [each for each in gpu.log if each not in ("a", "flush")] == [f"graph of {replays:.0f}", *["replay"] * 3]

    @pytest.mark.parametrize(("latency_us", "calls"), [(1.0, timing.MOST_REPLAYS), (2e3, 1)])
    def test_a_graph_has_neither_too_many_calls_nor_none(self, latency_us, calls):
        gpu = ScriptedGpu()
        self.timed(gpu, "a", latency_us).sample("hot")
        assert f"graph of {calls}" in gpu.log

    def test_calls_run_until_the_clock_has_risen(self):
        gpu = ScriptedGpu()
        Timed(Stopwatch(gpu), lambda: gpu.log.append("a") or setattr(gpu, "now_us", gpu.now_us + 500.0))
        assert gpu.log.count("a") == timing.WARM_UP_US / 500

    def test_the_protocol_that_was_not_chosen_gives_medians(self):
        gpu = ScriptedGpu(latency_us=0.0)
        watch = Stopwatch(gpu)
        a, b = self.timed(gpu, "a", 250.0), self.timed(gpu, "b", 500.0)
        found = watch.pair(a, b, "hot", repeats=3)
        assert found.samples_us == (250 + GRAPH_US / 2,) * 3
        assert found.baseline_us == (500 + GRAPH_US,) * 3
        assert found.details == {"protocol": "hot", "cold_us": 250.0, "cold_baseline_us": 500.0}

    def test_a_gpu_without_graphs_has_no_other_protocol(self):
        gpu = ScriptedGpu()
        gpu.protocols = ("cold",)
        found = Stopwatch(gpu).pair(self.timed(gpu, "a", 250.0), None, "cold", repeats=2)
        assert found == timing.Timing((250.0, 250.0), (), {"protocol": "cold"})

    def test_a_slow_candidate_gets_fewer_samples(self):
        gpu = ScriptedGpu()
        a, b = self.timed(gpu, "a", 1000.0), self.timed(gpu, "b", 100.0)
        watch = Stopwatch(gpu)
        assert len(watch.pair(a, b, "cold").samples_us) == cpu_timing.PAIRS_OF_SLOW
        assert len(watch.pair(b, a, "cold").samples_us) == cpu_timing.PAIRS


@pytest.mark.parametrize(
    ("program_arch", "gpu_arch", "runs"),
    [
        ("sm_80", "sm_80", True),
        ("sm_80", "sm_86", True),
        ("sm_86", "sm_80", False),
        ("sm_70", "sm_80", False),
        ("sm_90a", "sm_90", True),
        ("sm_90", "sm_100", False),
        ("sm_100a", "sm_103", False),
        ("sm_100", "sm_103", True),
    ],
)
def test_which_machine_code_runs_where(program_arch, gpu_arch, runs):
    assert runs_on(program_arch, gpu_arch) is runs


def test_a_gpu_that_does_not_tell_its_clock_has_no_ceilings():
    assert ceilings_of({**PROPERTIES, "clock_mhz": 0}).objection_to(1e30, 1 << 60, 1.0) == ""
    assert ceilings_of(PROPERTIES).gflops == 256.0


def test_a_driver_older_than_the_toolchain_is_a_sentence():
    gpu = GpuInfo("GPU", "sm_80", PROPERTIES, {"driver": "12.4"})
    check_toolchain(gpu, "12.9")
    with pytest.raises(UserError, match=r"driver is for CUDA 12.4, too old for .* toolchain 13.0; install a newer"):
        check_toolchain(gpu, "13.0")

"""How many samples are taken, and how long a call takes."""

from __future__ import annotations

import statistics
import time

import pytest

from tests import devices_templates as templates
from wpk_envs.devices import timing
from wpk_envs.devices.ceilings import MARGIN, Ceilings


def burn(seconds: float):
    """A call that uses so much CPU time."""

    def call() -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    return call


@pytest.mark.parametrize("threads", [1, 2])
def test_samples_are_microseconds_of_one_call(threads):
    candidate, baseline = timing.time_pair(burn(0.0005), burn(0.001), threads, repeats=5)
    assert len(candidate) == len(baseline) == 5
    assert statistics.median(candidate) == pytest.approx(500, rel=0.2)
    assert statistics.median(baseline) == pytest.approx(1000, rel=0.2)


def test_one_thread_is_timed_by_its_own_cpu_time():
    """Sleeping, as being preempted, does not count."""
    candidate, _ = timing.time_pair(lambda: time.sleep(0.002), burn(0.001), repeats=3)
    assert statistics.median(candidate) < 500


def test_fast_calls_are_repeated_within_a_sample():
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        burn(1e-4)()

    timing.interleave([call], [1e-4], rounds=2)
    assert calls == 2 * timing.SAMPLE_SECONDS / 1e-4


def test_rounds_go_forwards_and_backwards():
    order: list[str] = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    timing.interleave(calls, [1.0, 1.0], rounds=3)
    assert "".join(order) == "abbaab"


@pytest.mark.parametrize(
    ("candidate_ms", "baseline_ms", "pairs"),
    [
        (1, 1, timing.PAIRS),
        (1, 2, timing.PAIRS),
        (2.9, 1, timing.PAIRS),
        (3.1, 1, timing.PAIRS_OF_SLOW),
        (20, 20, 10),
        (200, 200, timing.FEWEST_PAIRS),
        (200, 1, 1),
    ],
)
def test_pairs_by_how_much_they_tell(candidate_ms, baseline_ms, pairs):
    assert timing.worthwhile_pairs(candidate_ms / 1e3, baseline_ms / 1e3) == pairs


def test_what_is_faster_than_the_machine_is_objected_to():
    candidate = templates.candidate()
    flops, moved = candidate.operator.flops, candidate.operator.bytes
    at_peak_us = flops / 100e3
    assert Ceilings(100, 1e9).objection(candidate, at_peak_us / MARGIN * 1.01) == ""
    assert "the peak is 100" in Ceilings(100, 1e9).objection(candidate, at_peak_us / MARGIN / 1.01)
    at_bandwidth_us = moved / 50e3
    assert Ceilings(1e9, 50).objection(candidate, at_bandwidth_us / MARGIN * 1.01) == ""
    assert "the cache gives 50" in Ceilings(1e9, 50).objection(candidate, at_bandwidth_us / MARGIN / 1.01)

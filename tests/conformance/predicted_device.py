"""`PredictedDeviceConformance`: what every device that predicts must do. Inherit it and name candidates."""

from __future__ import annotations

import time

import pytest

from wpk_envs.core import Candidate, Device, ErrorKind, Measurement


class PredictedDeviceConformance:
    """Override `good` and `misbehaving`, and give a fixture `device` (one for the whole class is enough)."""

    def good(self) -> list[Candidate]:
        """At least four different candidates of one operator that can be predicted."""
        raise NotImplementedError

    def misbehaving(self) -> list[tuple[Candidate, ErrorKind, str]]:
        """Bad candidates, the error that each must get, and words of its message."""
        raise NotImplementedError

    @pytest.fixture
    def device(self) -> Device:
        raise NotImplementedError

    def test_info_describes_the_gpu_and_names_the_model(self, device: Device):
        info = device.info
        assert device.predicts
        assert info.kind == "cuda"
        assert info.target["arch"]
        assert info.versions["predictor"]
        assert len(info.fingerprint) == 16
        assert device.workers >= 1
        assert device.peak_gflops() > 0

    def test_every_candidate_is_answered_with_a_prediction_and_its_baseline(self, device: Device):
        for measurement in device.measure(self.good()):
            assert measurement.error is None, measurement.message
            assert measurement.predicted_latency_us > 0
            assert measurement.confidence == "high" or measurement.confidence.startswith("low: ")
            assert measurement.predicted_speedup == measurement.gain > 0
            assert measurement.baseline_name == "default schedule (predicted)"
            assert measurement.details["roofline_us"] > 0
            assert measurement.build_seconds > 0
            assert "output" in measurement.layouts

    def test_nothing_is_measured(self, device: Device):
        for measurement in device.measure(self.good(), repeats=5):
            assert measurement.samples_us == measurement.baseline_us == ()
            assert measurement.latency_us is measurement.speedup is None

    def test_the_baseline_is_one_for_an_operator(self, device: Device):
        assert len({measurement.predicted_baseline_us for measurement in device.measure(self.good())}) == 1

    def test_results_are_reported_once_each_and_returned_in_order(self, device: Device):
        bad, kind, _ = self.misbehaving()[0]
        batch = [c for good in self.good() for c in (good, bad)]
        reported: dict[int, Measurement] = {}

        def keep(position: int, measurement: Measurement) -> None:
            assert position not in reported
            reported[position] = measurement

        results = device.measure(batch, on_result=keep)
        assert [measurement.error for measurement in results] == [None, kind] * len(self.good())
        assert results == [reported[position] for position in range(len(batch))]
        assert results[::2] == [device.measure([good])[0] for good in self.good()]

    def test_the_same_candidate_again_is_the_same_and_costs_nothing(self, device: Device):
        candidates = self.good()
        before = device.measure(candidates)
        started = time.perf_counter()
        for _ in range(20):
            assert device.measure(candidates) == before
        assert (time.perf_counter() - started) / 20 / len(before) < 1e-3

    def test_misbehaviour_is_a_typed_error_and_the_batch_goes_on(self, device: Device):
        good = self.good()[0]
        cases = self.misbehaving()
        results = device.measure([good, *(candidate for candidate, _, _ in cases), good])
        for (candidate, kind, words), measurement in zip(cases, results[1:-1]):
            assert measurement.error == kind, f"{candidate.template.name}: {measurement}"
            assert words in measurement.message, f"{candidate.template.name}: {measurement.message}"
            assert measurement.gain is measurement.cost_us is None
        assert results[0].error is results[-1].error is None

    def test_nothing_asked_is_nothing_answered(self, device: Device):
        assert device.measure([]) == []

    def test_a_fresh_device_predicts_the_same(self, device: Device):
        with device.fresh() as fresh:
            assert fresh is not device
            assert fresh.info == device.info
            for before, again in zip(device.measure(self.good()), fresh.measure(self.good())):
                assert again.predicted_latency_us == before.predicted_latency_us
                assert again.predicted_baseline_us == before.predicted_baseline_us
                assert again.confidence == before.confidence
        assert device.measure(self.good()[:1])[0].error is None  # closing the fresh one left this one alone

    def test_an_exception_in_on_result_leaves_the_device_usable(self, device: Device):
        def stop(position: int, measurement: Measurement) -> None:
            raise LookupError("enough")

        with device.fresh() as fresh:
            with pytest.raises(LookupError, match="enough"):
                fresh.measure(self.good(), on_result=stop)
            assert fresh.measure(self.good()) == fresh.measure(self.good())

    def test_closing_twice_is_harmless(self, device: Device):
        fresh = device.fresh()
        fresh.close()
        fresh.close()

"""`DeviceConformance`: what every device that measures must do. Inherit it and name candidates."""

from __future__ import annotations

import pytest

from wpk_envs.core import Candidate, Device, ErrorKind, Measurement


class DeviceConformance:
    """Override `good` and `misbehaving`, and give a fixture `device` (one for the whole class is enough)."""

    def good(self) -> list[Candidate]:
        """At least four different candidates that compile and are correct."""
        raise NotImplementedError

    def misbehaving(self) -> list[tuple[Candidate, ErrorKind, str]]:
        """Bad candidates, the error that each must get, and words of its message."""
        raise NotImplementedError

    @pytest.fixture
    def device(self) -> Device:
        raise NotImplementedError

    def test_info_describes_the_device(self, device: Device):
        info = device.info
        assert info.kind
        assert info.name
        assert info.target["kind"]
        assert len(info.fingerprint) == 16
        assert all(0 <= value <= 2 for value in info.features().values())
        assert device.workers >= 1

    def test_every_candidate_is_answered_with_paired_samples(self, device: Device):
        for measurement in device.measure(self.good()):
            assert measurement.error is None, measurement.message
            assert min(measurement.samples_us) > 0
            assert len(measurement.baseline_us) == len(measurement.samples_us)
            assert measurement.baseline_name
            assert measurement.speedup > 0
            assert 0 <= measurement.max_error <= self.good()[0].template.tolerance
            assert "output" in measurement.layouts
            assert measurement.build_seconds > 0
            assert measurement.measure_seconds > 0

    def test_results_are_reported_once_each_and_returned_in_order(self, device: Device):
        """The bad candidates in between show by their errors that positions are kept."""
        bad, kind, _ = self.misbehaving()[0]
        batch = [c for good in self.good() for c in (good, bad)]
        reported: dict[int, Measurement] = {}

        def keep(position: int, measurement: Measurement) -> None:
            assert position not in reported
            reported[position] = measurement

        results = device.measure(batch, on_result=keep)
        assert [measurement.error for measurement in results] == [None, kind] * len(self.good())
        assert results == [reported[position] for position in range(len(batch))]

    def test_misbehaviour_is_a_typed_error_and_the_batch_goes_on(self, device: Device):
        good = self.good()[0]
        cases = self.misbehaving()
        results = device.measure([good, *(candidate for candidate, _, _ in cases), good])
        for (candidate, kind, words), measurement in zip(cases, results[1:-1]):
            assert measurement.error == kind, f"{candidate.template.name}: {measurement}"
            assert words in measurement.message, f"{candidate.template.name}: {measurement.message}"
            assert not measurement.samples_us
        assert results[0].error is None
        assert results[-1].error is None

    def test_repeats_are_obeyed(self, device: Device):
        (measurement,) = device.measure(self.good()[:1], repeats=3)
        assert len(measurement.samples_us) == 3

    def test_nothing_asked_is_nothing_answered(self, device: Device):
        assert device.measure([]) == []

    def test_the_peak_is_measured(self, device: Device):
        assert device.peak_gflops() > 0
        assert device.peak_gflops() == device.peak_gflops()

    def test_a_fresh_device_measures_the_same_baseline(self, device: Device):
        before = self.measured(device)
        with device.fresh() as fresh:
            again = self.measured(fresh)
            assert fresh.info == device.info
        assert again.baseline_name == before.baseline_name
        assert self.measured(device).error is None  # closing the fresh one left this one alone

    def measured(self, device: Device) -> Measurement:
        (measurement,) = device.measure(self.good()[:1])
        assert measurement.error is None, measurement.message
        return measurement

    def test_an_exception_in_on_result_leaves_the_device_usable(self, device: Device):
        def stop(position: int, measurement: Measurement) -> None:
            raise LookupError("enough")

        with pytest.raises(LookupError, match="enough"):
            device.measure(self.good(), on_result=stop)
        assert self.measured(device).error is None

"""The predicted device, with a synthetic predictor in place of the model: its numbers are made up."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from tests import synthetic_predictor as synthetic
from tests.conformance.predicted_device import PredictedDeviceConformance
from wpk_envs.core import Candidate, Device, ErrorKind
from wpk_envs.devices import check_measures, open_device
from wpk_envs.devices.cuda.descriptions import describe
from wpk_envs.devices.predicted.device import DEADLINE_SECONDS, PredictedDevice
from wpk_envs.devices.predicted.model import MODEL_VERSION
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.schedules import build_space
from wpk_envs.schedules.cuda.gemm import GemmTemplate

OPERATOR = Gemm(m=64, n=64, k=32)
DEADLINE = 2.0


def opened(name: str = "p100", **settings) -> PredictedDevice:
    return PredictedDevice(name, **{**synthetic.SETTINGS, "deadline": DEADLINE, "workers": 1, **settings})


def candidates(count: int = 4) -> list[Candidate]:
    space, rng = build_space(OPERATOR, describe("p100"), ["gemm"]), np.random.default_rng(0)
    return [space.candidate(vector) for vector in dict.fromkeys(space.sample(rng) for _ in range(2 * count))][:count]


def of(template: type[GemmTemplate]) -> Candidate:
    return Candidate(OPERATOR, template(), dict(candidates(1)[0].config))


@pytest.fixture(scope="module")
def predicted_device() -> Iterator[PredictedDevice]:
    with opened() as device:
        yield device


class TestConformance(PredictedDeviceConformance):
    def good(self) -> list[Candidate]:
        return candidates()

    def misbehaving(self) -> list[tuple[Candidate, ErrorKind, str]]:
        return [
            (of(synthetic.Refused), "compile", "ptxas does not like it"),
            (of(synthetic.Raising), "crash", "LookupError: a defect of the predictor"),
            (of(synthetic.Measuring), "crash", "a predictor cannot measure"),
            (of(synthetic.Dying), "crash", "killed by SIGABRT"),
            (of(synthetic.Hanging), "timeout", "no answer within the deadline of 2 s"),
        ]

    @pytest.fixture
    def device(self, predicted_device: PredictedDevice) -> Device:
        return predicted_device


class TestDevice:
    def test_workers_are_prepared(self, predicted_device):
        assert predicted_device.measure(candidates(1))[0].details["prepared"]

    def test_devices_of_the_same_gpu_share_what_they_know(self, predicted_device):
        (known,) = predicted_device.measure(candidates(1))
        with opened() as other, opened(clock_mhz=1000) as slower:
            assert other.measure(candidates(1)) == [known]
            assert slower.measure(candidates(1))[0].predicted_latency_us != known.predicted_latency_us
            assert slower.info.fingerprint != other.info.fingerprint == predicted_device.info.fingerprint

    def test_it_is_another_device_than_a_real_one(self, predicted_device):
        described = describe("p100")
        assert predicted_device.info.name == described.name
        assert predicted_device.info.limits == described.limits
        assert predicted_device.info.versions.items() >= described.versions.items()
        assert predicted_device.info.versions["predictor"] == "synthetic 1"
        assert predicted_device.info.fingerprint != described.fingerprint

    def test_lasting_errors_are_remembered_and_others_asked_again(self, predicted_device, monkeypatch):
        predicted_device.measure([of(synthetic.Refused), of(synthetic.Raising)])
        asked = []
        run = predicted_device._shared._pool.run
        monkeypatch.setattr(
            predicted_device._shared._pool,
            "run",
            lambda requests, *rest: asked.extend(requests) or run(requests, *rest),
        )
        predicted_device.measure([of(synthetic.Refused), of(synthetic.Raising), *candidates(1), *candidates(1)])
        assert [request.candidate.template.name for request in asked] == [synthetic.Raising.name]

    def test_a_candidate_twice_in_a_batch_is_predicted_once(self):
        with opened() as device:
            pair = device.measure(candidates(1) * 2)
        assert pair[0] is not None
        assert pair[0] == pair[1]

    def test_an_operator_without_a_default_schedule_is_predicted_without_a_baseline(
        self, predicted_device, monkeypatch, caplog
    ):
        def none(operator, device):
            raise UserError("there is no default schedule")

        monkeypatch.setattr("wpk_envs.devices.predicted.device.default_candidate", none)
        operator = Gemm(m=64, n=64, k=33)
        space = build_space(operator, describe("p100"), ["gemm"])
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                (measurement,) = predicted_device.measure([space.candidate(space.unrank(0))])
        assert measurement.predicted_latency_us > 0
        assert (measurement.gain, measurement.baseline_name) == (None, "")
        assert caplog.text.count("has no predicted baseline: there is no default schedule") == 1

    def test_the_last_one_that_closes_ends_the_processes(self):
        before = set(psutil.Process().children(recursive=True))
        first, second = opened("v100"), opened("v100")
        first.measure(candidates(1))
        started = set(psutil.Process().children(recursive=True)) - before
        assert len(started) == 1
        first.close()
        assert all(process.is_running() for process in started)
        second.close()
        assert psutil.wait_procs(started, timeout=20)[1] == []
        with pytest.raises(UserError, match="the device is closed"):
            second.measure(candidates(3))


class TestConfidence:
    def test_on_request_only_confident_predictions_are_given(self, predicted_device):
        every = predicted_device.measure(candidates(12))
        confident = [each.confidence == "high" for each in every]
        assert 0 < sum(confident) < len(confident)
        with opened(confidence="high") as picky:
            for plain, strict in zip(every, picky.measure(candidates(12))):
                if plain.confidence == "high":
                    assert strict == plain
                    continue
                assert (strict.error, strict.predicted_latency_us, strict.gain) == ("invalid", None, None)
                assert strict.message == (
                    "its prediction is of low confidence: low occupancy, and device.confidence=high asks for confident "
                    "ones"
                )
                assert strict.confidence == plain.confidence
                assert strict.details["registers"] == 40

    def test_records_of_the_one_never_answer_for_the_other(self, predicted_device):
        with opened(confidence="high") as picky:
            assert picky.info.fingerprint != predicted_device.info.fingerprint


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("p1000", {}, "unknown GPU 'p1000'; did you mean p100"),
        ("p100", {"confidence": "low"}, r"unknown device.confidence 'low' \(allowed: any, high\)"),
        ("p100", {"workers": 0}, "device.workers must be a whole number from 1"),
        ("p100", {"deadline": 0}, "device.deadline must be greater than 0"),
        ("p100", {"clock_mhz": -1}, "device.clock_mhz must be a whole number of at least 1"),
        ("h100", {"arch": "sm_89"}, "unknown architecture for predictions, device.arch 'sm_89'.*sm_60"),
        ("p100", {"sms": 1}, "unknown number of device p100 'sms'"),
    ],
)
def test_mistakes_are_sentences(name, settings, words):
    with pytest.raises(UserError, match=words):
        opened(name, **settings)


def test_templates_that_processes_cannot_import_are_refused(predicted_device, monkeypatch):
    monkeypatch.setattr(synthetic.Refused, "__module__", "__main__")
    with pytest.raises(UserError, match="Refused is defined in __main__"):
        predicted_device.measure([of(synthetic.Refused)])


def test_another_operator_has_its_own_baseline(predicted_device):
    operator = Conv2d(channels=8, filters=8, height=8, width=8)
    space = build_space(operator, describe("p100"), ["direct_conv"])
    (measurement,) = predicted_device.measure([space.candidate(space.unrank(0))])
    default = predicted_device.default(operator)
    assert default.template.name == "cuda/direct_conv"
    assert measurement.predicted_baseline_us == predicted_device.measure([default])[0].predicted_latency_us
    assert predicted_device.measure([default])[0].predicted_speedup == 1.0


def test_with_the_model_itself():
    with open_device("p100", workers=1) as device:
        batch = [*candidates(3), device.default(OPERATOR)]
        measurements = device.measure(batch)
        assert measurements == device.measure(batch)
    for measurement in measurements:
        assert measurement.error is None, measurement.message
        assert measurement.predicted_latency_us > measurement.details["roofline_us"] > 0
        assert measurement.details["registers"] > 0
        assert measurement.details["baseline_confidence"] == measurements[-1].confidence
        assert measurement.confidence == "high" or measurement.confidence.startswith("low: ")
    assert measurements[-1].predicted_speedup == 1.0


class TestByName:
    def test_open_device_opens_it(self):
        with open_device("v100_pcie", workers=1, confidence="high", multiprocessors=66, deadline=None) as device:
            assert isinstance(device, PredictedDevice)
            assert (device.confidence, device.workers, device.deadline) == ("high", 1, DEADLINE_SECONDS)
            assert device.info.limits == describe("v100_pcie", multiprocessors=66).limits
            assert device.info.versions["predictor"] == str(MODEL_VERSION)

    def test_it_has_no_other_settings(self):
        with pytest.raises(UserError, match=r"unknown setting of device p100 'threads'; .*confidence"):
            open_device("p100", threads=1)

    def test_what_needs_measurements_refuses_it(self):
        check_measures("cuda")
        with pytest.raises(UserError, match="device=p100 only predicts, and this needs measurements: use device=cuda"):
            check_measures("p100")

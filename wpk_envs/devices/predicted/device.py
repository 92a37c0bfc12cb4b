"""GPUs that are not here: the time of really compiled kernels, as a model predicts it."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from wpk_envs.core import Candidate, Device, DeviceInfo, Measurement, Operator
from wpk_envs.devices import CONFIDENCES
from wpk_envs.devices.cuda import descriptions
from wpk_envs.devices.cuda.jobs import ceilings_of
from wpk_envs.devices.host import available_cores
from wpk_envs.devices.predicted.confidence import HIGH
from wpk_envs.devices.predicted.constants import ARCHITECTURES
from wpk_envs.devices.predicted.model import MODEL_VERSION
from wpk_envs.devices.predicted.predictions import Predictions
from wpk_envs.devices.rounds import check_importable
from wpk_envs.errors import UserError, unknown
from wpk_envs.schedules.defaults import default_candidate

logger = logging.getLogger(__name__)

PREDICTOR = "wpk_envs.devices.predicted.predictor:predict"
DEADLINE_SECONDS = 60.0

BASELINE_NAME = "default schedule (predicted)"


class PredictedDevice(Device):
    """Builds candidates for a named GPU in processes on this host's cores, and predicts their latency.

    Nothing is measured. The baseline of every operator is its default schedule
    (`wpk_envs.schedules.defaults.default_candidate`), predicted by the same model. What was predicted once is known
    from then on. Processes start in the background; devices of one process with the same settings share them and
    what they know, and the last `close` ends them.

    Args:
        name: A GPU that has a description in ``conf/device/``.
        confidence: ``"any"``, or ``"high"`` to answer a candidate whose prediction has another confidence with the
            error ``invalid``, which tells why and costs a trial like any other answer.
        workers: Candidates predicted at the same time; as many as there are cores if none.
        deadline: Seconds that one candidate may take to build and predict.
        predictor: What predicts, as ``module:function``; see `wpk_envs.devices.predicted.server.PredictServer`.
        version: Of what predicts; it becomes part of the device's fingerprint.
        shared: Whether to share processes; otherwise this device starts its own, as they are needed.
        numbers: Those of the description that are to be others: ``model``, ``arch`` or a limit.

    Raises:
        UserError: For settings that are not allowed, or if kernels cannot be compiled for the GPU.
    """

    predicts = True

    def __init__(
        self,
        name: str,
        confidence: Literal["any", "high"] = "any",
        workers: int | None = None,
        deadline: float = DEADLINE_SECONDS,
        predictor: str = PREDICTOR,
        version: str = str(MODEL_VERSION),
        shared: bool = True,
        **numbers: Any,
    ) -> None:
        most = available_cores()
        if workers is not None and not (isinstance(workers, int) and 1 <= workers <= most):
            raise UserError(f"device.workers must be a whole number from 1 to {most} (cores), not {workers}")
        if not deadline > 0:
            raise UserError(f"device.deadline must be greater than 0, not {deadline}")
        if confidence not in CONFIDENCES:
            raise unknown("device.confidence", confidence, CONFIDENCES)
        self.workers = workers or most
        self.deadline = deadline
        self.confidence = confidence
        self._target = _known(_with_version(descriptions.describe(name, **numbers), "predictor", version))
        self.info: DeviceInfo = _with_version(self._target, "confidence", confidence)
        settings = (self._target.fingerprint, self.workers, predictor)
        self._reopen: Callable[[], PredictedDevice] = lambda: PredictedDevice(
            name, confidence, workers, deadline, predictor, version, shared=False, **numbers
        )
        self._shared = Predictions.of(settings) if shared else Predictions(settings)
        self._release = weakref.finalize(self, self._shared.release)

    @property
    def notes(self) -> tuple[str, ...]:
        """What its user should know, in sentences."""
        return (
            f"kernels are compiled for {self.info.name}, their times are predicted by a model and none is measured",
            f"speedups are predicted ones, over the operator's {BASELINE_NAME}",
        )

    def measure(
        self,
        candidates: Sequence[Candidate],
        on_result: Callable[[int, Measurement], None] | None = None,
        repeats: int | None = None,
    ) -> list[Measurement]:
        """Predict candidates in parallel; see `Device.measure`. ``repeats`` changes nothing.

        Raises:
            UserError: If a template or operator is defined where processes cannot import it.
        """
        for candidate in candidates:
            check_importable(candidate.template)
            check_importable(candidate.operator)
        for operator in dict.fromkeys(candidate.operator for candidate in candidates):
            self.baseline(operator)

        def hand_over(position: int, prediction: Measurement) -> None:
            if on_result is not None:
                on_result(position, self._answer(candidates[position], prediction))

        predictions = self._shared.predict(candidates, self._target, self.deadline, hand_over)
        return [self._answer(*pair) for pair in zip(candidates, predictions)]

    def default(self, operator: Operator) -> Candidate:
        """The baseline of an operator: its default schedule.

        Raises:
            UserError: If it has none on this GPU.
        """
        return default_candidate(operator, self._target)

    def baseline(self, operator: Operator) -> Measurement:
        """The prediction of an operator's default schedule, made once; an error if there is none."""
        known = self._shared.baselines
        if operator not in known:
            known[operator] = self._predict_default(operator)
            if known[operator].error is not None:
                logger.warning("%s has no predicted baseline: %s", operator.label, known[operator].message)
        return known[operator]

    def _predict_default(self, operator: Operator) -> Measurement:
        try:
            default = self.default(operator)
        except UserError as error:
            return Measurement(error="invalid", message=str(error))
        return self._shared.predict([default], self._target, self.deadline)[0]

    def peak_gflops(self) -> float:
        """Nominal float32 peak in GFLOP/s: lanes, multiprocessors and highest clock of its description."""
        return ceilings_of(self.info.limits).gflops

    def fresh(self) -> PredictedDevice:
        """A device of the same settings that knows no prediction yet, with processes of its own."""
        return self._reopen()

    def close(self) -> None:
        """Give the processes up; the last device that shares them ends them."""
        self._release()

    def _answer(self, candidate: Candidate, prediction: Measurement) -> Measurement:
        """A prediction with its baseline beside it; an error if it is not confident enough."""
        if prediction.predicted_latency_us is None:
            return prediction
        if self.confidence == HIGH and prediction.confidence != HIGH:
            message = f"its prediction is of {prediction.confidence.replace(':', ' confidence:')}"
            message += f", and device.confidence={HIGH} asks for confident ones"
            return replace(prediction, predicted_latency_us=None, error="invalid", message=message)
        baseline = self.baseline(candidate.operator)
        if baseline.predicted_latency_us is None:
            return prediction
        return replace(
            prediction,
            predicted_baseline_us=baseline.predicted_latency_us,
            baseline_name=BASELINE_NAME,
            details={**prediction.details, "baseline_confidence": baseline.confidence},
        )


def _known(target: DeviceInfo) -> DeviceInfo:
    """The GPU, if the model has what it must know of its architecture."""
    if target.target["arch"] not in ARCHITECTURES:
        raise unknown("architecture for predictions, device.arch", target.target["arch"], ARCHITECTURES)
    return target


def _with_version(info: DeviceInfo, name: str, version: str) -> DeviceInfo:
    return replace(info, versions={**info.versions, name: version})

"""Whether a submission's claims hold: its configs are replayed or measured again, and its trials counted."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from experiments.board.submission import Claim, Entry, Submission
from experiments.comparison.cells import unpacked
from experiments.comparison.places import Place
from experiments.comparison.scores import SHARE
from experiments.finals import median_interval, ratios
from wpk_envs.core import Measurement
from wpk_envs.errors import UserError
from wpk_envs.schedules.space import Prefix, ScheduleSpace

EXACT = 1e-6
"""What replayed speedups may differ by, relatively."""

NOISE = 0.05
"""What a measured speedup may claim above the 95% interval of its second measurement, relatively.

A search reports the best of many noisy measurements, so a true claim lies a little too high.
"""


@dataclass
class Verdict:
    """What came of a verification.

    Attributes:
        reasons: Why it is rejected; empty if it is accepted.
        speedups: As verified, by operator, in the order of the seeds.
        best_known: The best recorded speedup by operator; none where it was measured.
        trials_to_95: Trials to 95% of that, by operator, none for runs that did not reach it; empty unless all configs
            were given and tables replayed.
    """

    reasons: list[str] = field(default_factory=list)
    speedups: dict[str, list[float]] = field(default_factory=dict)
    best_known: dict[str, float | None] = field(default_factory=dict)
    trials_to_95: dict[str, list[int | None]] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether every claim holds."""
        return not self.reasons


def verify(submission: Submission, place: Place) -> Verdict:
    """Check all claims; on a device that measures, measure their configs again.

    Args:
        submission: The claims.
        place: Where to check them, with all operators that are claimed and known there.
    """
    verdict = Verdict(list(_about_place(submission, place)))
    if not verdict.accepted:
        return verdict
    for op, entry in submission.operators.items():
        wrong = list(_about_entry(submission, op, entry, place))
        verdict.reasons += [f"{op}: {reason}" for reason in wrong]
        if not wrong:
            _check_runs(op, entry, place, verdict)
    return verdict


def _about_place(submission: Submission, place: Place) -> Iterator[str]:
    """What makes checking useless."""
    device = place.device
    if submission.recorded != device.replays:
        was, now = ("recorded tables", "a device that measures") if submission.recorded else ("measuring", "tables")
        yield f"it was made with {was} and cannot be checked on {now}; choose another device="
    elif submission.fingerprint != device.info.fingerprint:
        yield (
            f"it was made on {submission.device_name} ({submission.fingerprint}), and this is {device.info.name} "
            f"({device.info.fingerprint}), another device or other versions"
        )
    if submission.trials < 1:
        yield f"its budget is {submission.trials} trials"
    if not submission.operators:
        yield "it claims nothing"
    if len({len(entry.runs) for entry in submission.operators.values()}) > 1:
        yield "its operators have different numbers of seeds"


def _about_entry(submission: Submission, op: str, entry: Entry, place: Place) -> Iterator[str]:
    """What is wrong with an operator's claims before any config is looked at."""
    if op not in place.operators:
        yield f"unknown operator (known are {', '.join(place.operators)})"
        return
    if entry.operator != place.operators[op].to_dict():
        yield "it is another operator here"
    if entry.table != place.table(op):
        yield "it was replayed from another table"
    seeds = [claim.seed for claim in entry.runs]
    if not seeds or seeds != list(range(len(seeds))):
        yield f"its seeds are not 0 to {max(len(seeds) - 1, 0)}, one run each"
    for claim in entry.runs:
        if claim.trials > submission.trials:
            yield f"seed {claim.seed}: {claim.trials} trials are more than the budget of {submission.trials}"


class _RefutedError(Exception):
    """A claim does not hold; the message says why."""


def _check_runs(op: str, entry: Entry, place: Place, verdict: Verdict) -> None:
    """Check every run of an operator, and keep what it is really worth."""
    held: list[tuple[Claim, Prefix | None, list[Prefix]]] = []
    for claim in entry.runs:
        with _refutation(verdict, op, claim):
            vector = _vector(claim, place.space(op))
            held.append((claim, vector, _tried(claim, vector, place.space(op))))
    answers = place.answers(op, list(dict.fromkeys(vector for _, vector, _ in held if vector is not None)))
    speedups, times = [], []
    for claim, vector, tried in held:
        with _refutation(verdict, op, claim):
            speedups.append(0.0 if vector is None else _speedup(claim, answers[vector], place.device.replays))
            times.append(_time(place, op, tried))
    verdict.speedups[op] = speedups
    verdict.best_known[op] = place.best_known(op)
    if place.device.replays and all(claim.tried is not None for claim in entry.runs):
        verdict.trials_to_95[op] = times


@contextlib.contextmanager
def _refutation(verdict: Verdict, op: str, claim: Claim) -> Iterator[None]:
    try:
        yield
    except _RefutedError as reason:
        verdict.reasons.append(f"{op}, seed {claim.seed}: {reason}")


def _vector(claim: Claim, space: ScheduleSpace) -> Prefix | None:
    """The config that is claimed to be the best; none if it is claimed that nothing worked."""
    if claim.config is None:
        if claim.speedup != 0 or claim.trial != 0:
            raise _RefutedError("a speedup is claimed without a config")
        return None
    if not 1 <= claim.trial <= claim.trials:
        raise _RefutedError(f"its best is said to be trial {claim.trial} of {claim.trials}")
    if claim.trials > space.size:
        raise _RefutedError(f"{claim.trials} trials are more than the {space.size} configs that there are")
    try:
        vector = space.encode(claim.config)
    except UserError as error:
        raise _RefutedError(str(error)) from error
    if not space.is_valid(vector):
        raise _RefutedError(space.explain(vector))
    return vector


def _tried(claim: Claim, best: Prefix | None, space: ScheduleSpace) -> list[Prefix]:
    """All configs that are said to have been tried, if they are given."""
    if claim.tried is None:
        return []
    try:
        vectors = unpacked(claim.tried, claim.trials, space.length)
    except ValueError as error:
        raise _RefutedError(f"its list of tried configs is damaged ({error})") from error
    if len(set(vectors)) < len(vectors):
        raise _RefutedError("a config is in its list of tried ones twice")
    if not all(map(space.is_valid, vectors)):
        raise _RefutedError("its list of tried configs has invalid ones")
    if best is not None and vectors[claim.trial - 1] != best:
        raise _RefutedError(f"by its list, trial {claim.trial} was another config")
    return vectors


def _speedup(claim: Claim, answer: Measurement, exact: bool) -> float:
    """What a config is really worth."""
    if answer.error is not None:
        raise _RefutedError(f"its config fails here: {answer.error}, {answer.message}")
    gain = answer.gain
    if gain is None:
        raise _RefutedError("there is no baseline here to tell a speedup by")
    if exact and not math.isclose(claim.speedup, gain, rel_tol=EXACT):
        raise _RefutedError(f"a speedup of {claim.speedup:.4f} is claimed, and the table has {gain:.4f}")
    if not exact:
        low, high = median_interval(ratios(answer))
        if not claim.speedup <= high * (1 + NOISE):
            raise _RefutedError(
                f"a speedup of {claim.speedup:.3f} is claimed, and measured again it is {gain:.3f} "
                f"(95% interval {low:.3f} to {high:.3f})"
            )
    return gain


def _time(place: Place, op: str, tried: Sequence[Prefix]) -> int | None:
    """The trial at which a run reached 95% of the best known; none if it did not, or that cannot be told."""
    best = place.best_known(op)
    if best is None or not tried:
        return None
    gains = (answer.gain or 0.0 for answer in place.answers(op, tried).values())
    return next((number for number, gain in enumerate(gains, start=1) if gain >= SHARE * best), None)

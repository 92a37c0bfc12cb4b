"""One run of a comparison, an agent on an operator with a seed, and the line that is kept of it."""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agents.base import Agent, TuningResult
from experiments.comparison.places import Place
from experiments.comparison.settings import Entrant
from wpk_envs.core import KnobValue
from wpk_envs.schedules.space import Prefix
from wpk_envs.tuning import Budget


@dataclass(frozen=True)
class Cell:
    """Which run.

    Attributes:
        algo: The agent's label.
        op: The operator's name.
        seed: Of the agent.
    """

    algo: str
    op: str
    seed: int

    def __str__(self) -> str:
        return f"{self.algo} on {self.op}, seed {self.seed}"


@dataclass(frozen=True)
class Improvement:
    """A trial that the agent saw to be better than all before it.

    Attributes:
        trial: Its number, from 1.
        seconds: The run's clock.
        gain: Its speedup; where noise is replayed the recorded one, which may be less than that of the trial before.
    """

    trial: int
    seconds: float
    gain: float


@dataclass(frozen=True)
class Run:
    """A finished run: its best-so-far curve and everything that it tried.

    Attributes:
        cell: Which run.
        improvements: The steps of the curve; none if nothing worked.
        trials: Trials that were made.
        seconds: The run's clock at the end.
        stop_reason: Why it ended.
        errors: Failed trials by kind.
        requests_invalid: Invalid requests, which are no trials.
        best: The config of the last improvement; none if nothing worked.
        tried: All configs as `packed` vectors, in the order in which their outcomes were known.
        wall_seconds: What the run took here.
        table: Checksum of the table that was replayed; empty if it was measured.
        knowledge: Of what the agent knew something before: ``"none"``, ``"other operators"`` or ``"this operator"``.
    """

    cell: Cell
    improvements: tuple[Improvement, ...]
    trials: int
    seconds: float
    stop_reason: str
    errors: Mapping[str, int]
    requests_invalid: int
    best: Mapping[str, KnobValue] | None
    tried: str
    wall_seconds: float
    table: str = ""
    knowledge: str = "none"

    @property
    def gain(self) -> float:
        """The speedup of what was held to be the best at the end, 0 if nothing worked."""
        return self.improvements[-1].gain if self.improvements else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The run as a line of a file."""
        steps = [[step.trial, step.seconds, step.gain] for step in self.improvements]
        rest = {key: value for key, value in vars(self).items() if key != "cell"}
        return {**asdict(self.cell), **rest, "improvements": steps}

    @staticmethod
    def from_dict(line: Mapping[str, Any]) -> Run:
        """The inverse of `to_dict`."""
        fields = dict(line)
        cell = Cell(*(fields.pop(key) for key in ("algo", "op", "seed")))
        steps = tuple(Improvement(*step) for step in fields.pop("improvements"))
        return Run(cell, steps, **fields)


def run_cell(place: Place, entrant: Entrant, cell: Cell, budget: Budget) -> Run:
    """Let an agent tune."""
    started = time.perf_counter()
    agent = entrant.agent(cell.seed)  # what it imports is not on the run's clock
    problem = place.problem(cell.op, budget, cell.seed)
    result = agent.tune(problem, cell.seed)
    improvements = tuple(_improvements(place, cell.op, result))
    return Run(
        cell=cell,
        improvements=improvements,
        trials=len(result.trials),
        seconds=result.trials[-1].seconds if result.trials else 0.0,
        stop_reason=str(result.stop_reason),
        errors=problem.errors,
        requests_invalid=problem.requests_invalid,
        best=result.trials[improvements[-1].trial - 1].config if improvements else None,
        tried=packed([trial.vector for trial in result.trials]),
        wall_seconds=time.perf_counter() - started,
        table=place.table(cell.op),
        knowledge=_knowledge(agent),
    )


def _knowledge(agent: Agent) -> str:
    if agent.knowledge is None:
        return "none"
    return "this operator" if agent.knowledge["has_seen_operator"] else "other operators"


def _improvements(place: Place, op: str, result: TuningResult) -> Iterator[Improvement]:
    best = 0.0
    for trial in result.trials:
        seen = trial.measurement.gain or 0.0
        if seen > best:
            best = seen
            yield Improvement(trial.number, trial.seconds, place.gain(op, trial))


def packed(vectors: Sequence[Sequence[int]]) -> str:
    """Vectors as text: a byte per knob, compressed, in base 64."""
    return base64.b64encode(zlib.compress(np.array(vectors, dtype=np.uint8).tobytes(), 9)).decode()


def unpacked(text: str, count: int, length: int) -> list[Prefix]:
    """The inverse of `packed`.

    Args:
        text: What `packed` made.
        count: How many vectors it has.
        length: Knobs of each.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(text, validate=True), count * length + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) != count * length or not unpacker.eof:
        raise ValueError(f"these are no {count} vectors of {length} knobs")
    return [tuple(content[place : place + length]) for place in range(0, len(content), length)]

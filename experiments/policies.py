"""Which policies are to be trained on which operators, and their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agents import policies
from agents.landscapes import FAMILY, families, landscapes, remaining
from agents.pretraining import Pretraining, Recipe
from wpk_envs.core import Operator
from wpk_envs.errors import UserError, unknown

HELD_OUT = ("operator", "family")
"""What a set of policies may hold out: every one knows all but one of it."""


@dataclass(frozen=True)
class Training:
    """A policy that is to be trained.

    Attributes:
        path: Its file.
        tables: What is recorded.
        names: The operators that it is trained on.
        recipe: How.
        seed: Of every random choice.
    """

    path: Path
    tables: str
    names: tuple[str, ...]
    recipe: Recipe
    seed: int

    def start(self) -> Pretraining:
        """The training, not begun."""
        chosen = [each for each in landscapes(self.tables) if each.name in self.names]
        return Pretraining(chosen, self.recipe, self.seed)

    def is_done(self) -> bool:
        """Whether the file has just this policy, trained to its end.

        Raises:
            UserError: If it has something else.
        """
        if not self.path.exists():
            return False
        facts = policies.load(self.path).facts
        same = (facts["recipe"], facts["seed"]) == (asdict(self.recipe), self.seed)
        if not same or tuple(facts["operators"]) != self.names:
            raise UserError(f"'{self.path}' is another policy already; name another folder, or remove it")
        return all(facts["done"][phase] >= facts["recipe"][phase] for phase in facts["done"])


def train(training: Training) -> Training:
    """Train a policy and write its file; one that is there already is left as it is."""
    if not training.is_done():
        pretraining = training.start()
        for _ in pretraining.run():
            pass
        policies.save(pretraining.policy(), training.path)
    return training


def set_of(
    folder: Path,
    known: Mapping[str, Operator],
    names: Sequence[str],
    held_out: str,
    tables: str,
    recipe: Recipe,
    seed: int,
) -> Iterator[Training]:
    """A policy on all operators, and one on all but each operator or family.

    Args:
        folder: Of the files.
        known: What is recorded, by name.
        names: Those of it that may be learnt from.
        held_out: One of `HELD_OUT`.
        tables: What is recorded.
        recipe: How they are trained.
        seed: Of each.

    Raises:
        UserError: If there is no such way to hold out, or nothing would be left.
    """
    if held_out not in HELD_OUT:
        raise unknown("held_out", held_out, HELD_OUT)
    chosen = {name: known[name] for name in names}
    groups = list(chosen) if held_out == "operator" else [FAMILY + family for family in families(chosen)]
    yield Training(folder / f"all{policies.SUFFIX}", tables, tuple(chosen), recipe, seed)
    for group in groups:
        path = folder / f"without_{group.replace('/', '-')}{policies.SUFFIX}"
        yield Training(path, tables, tuple(remaining(chosen, [group])), recipe, seed)

"""The report of a device's acceptance: what was checked, what passed, and what did not run and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from wpk_envs.files import write_whole

Outcome = Literal["passed", "failed", "did not run"]
OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "did not run")


@dataclass(frozen=True)
class Check:
    """One thing that was to be checked.

    Attributes:
        group: Such as ``"templates"``.
        name: What was checked.
        outcome: One of `OUTCOMES`.
        note: What was found; for a check that failed or did not run, why.
        seconds: How long it took.
    """

    group: str
    name: str
    outcome: Outcome
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """All checks of one device.

    Attributes:
        program: The command that ran them.
        device: Its name; for what is no real device, that it is none.
        facts: What else a reader must know of it: driver, memory, versions.
        created: When, UTC, ISO 8601.
        checks: In the order in which they ran.
    """

    program: str
    device: str
    facts: Mapping[str, Any]
    created: str
    checks: Sequence[Check]

    @property
    def counts(self) -> dict[str, int]:
        """How many checks ended in each outcome."""
        found = Counter(check.outcome for check in self.checks)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @property
    def passed(self) -> bool:
        """Whether no check failed and some passed."""
        return self.counts["failed"] == 0 < self.counts["passed"]

    @property
    def sentence(self) -> str:
        """The whole report in a sentence."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        return f"{self.device}: {'accepted' if self.passed else 'NOT accepted'} ({counts})"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "program": self.program,
            "device": self.device,
            "facts": dict(self.facts),
            "created": self.created,
            "passed": self.passed,
            "counts": self.counts,
            "checks": [asdict(check) for check in self.checks],
        }

    def to_markdown(self) -> str:
        """The report for people."""
        lines = [f"# Acceptance of {self.device}", "", f"{self.sentence}.", "", "| fact | value |", "|---|---|"]
        facts = {"created": self.created, "program": f"`{self.program}`", **self.facts}
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
        for group in dict.fromkeys(check.group for check in self.checks):
            lines += ["", f"## {group.capitalize()}", "", "| check | outcome | seconds | note |", "|---|---|---|---|"]
            lines += [_row(check) for check in self.checks if check.group == group]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> Path:
        """Write ``report.json`` and ``report.md`` into a folder; the path of the latter.

        Raises:
            OSError: If the disk refuses.
        """
        write_whole(folder / "report.json", (json.dumps(self.to_dict(), indent=2) + "\n").encode())
        write_whole(folder / "report.md", self.to_markdown().encode())
        return folder / "report.md"


def _row(check: Check) -> str:
    outcome = check.outcome if check.outcome == "passed" else f"**{check.outcome}**"
    return f"| {_cell(check.name)} | {outcome} | {check.seconds:.1f} | {_cell(check.note)} |"


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")

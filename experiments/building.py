"""Choosing configs and keeping what was built of them, so that a bundle can be made in several goes."""

from __future__ import annotations

import base64
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wpk_envs.core import Candidate, DeviceInfo, Operator
from wpk_envs.devices.cuda.bundle import Bundle, Entry
from wpk_envs.devices.cuda.program import Program
from wpk_envs.errors import UserError
from wpk_envs.files import JsonLines, read_lines
from wpk_envs.schedules import build_space
from wpk_envs.schedules.sampling import shares, spread

PARTIAL = 1
"""Version of the file that holds what an unfinished build has so far."""


@dataclass(frozen=True)
class Planned:
    """A candidate that is to be built, and the name of its operator."""

    name: str
    candidate: Candidate


def plan(chosen: Mapping[str, Operator], device: DeviceInfo, configs: int, seed: int) -> list[Planned]:
    """Choose configs of every distinct operator, fairly to operators and templates.

    Args:
        chosen: Operators by name; the same one under several names comes once.
        device: What they are built for.
        configs: How many in all; at least one per operator, at most all there are.
        seed: Of every random choice; with a larger ``configs`` those of a smaller one are chosen too.

    Raises:
        UserError: If no template fits an operator.
    """
    names: dict[Operator, str] = {}
    for name, operator in chosen.items():
        names.setdefault(operator, name)
    spaces = [build_space(operator, device) for operator in names]
    counts = shares([space.size for space in spaces], configs)
    return [
        Planned(names[space.operator], space.candidate(vector))
        for space, count in zip(spaces, counts)
        for vector in itertools.islice(spread(space, seed), count)
    ]


def entry_of(planned: Planned, program: Program) -> Entry:
    """A built candidate as a bundle keeps it."""
    candidate = planned.candidate
    return Entry(
        name=planned.name,
        operator=candidate.operator,
        template=candidate.template.name,
        template_version=candidate.template.version,
        config=dict(candidate.config),
        candidate=candidate.key,
        tolerance=candidate.template.tolerance,
        executed_flops=candidate.template.executed_flops(candidate.operator, candidate.config),
        program=program,
    )


def failure_of(planned: Planned, message: str) -> dict[str, Any]:
    """A candidate that did not compile as a bundle keeps it."""
    candidate = planned.candidate
    return {
        "name": planned.name,
        "template": candidate.template.name,
        "config": dict(candidate.config),
        "candidate": candidate.key,
        "message": message,
    }


def by_value(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries so that the first ones are worth the most.

    Every operator and every template of it takes its turn, in the order in which they come. Kernels that
    spill registers are last: they are hardly ever fast.
    """
    turns: Counter[tuple[str, str]] = Counter()
    ordered = []
    for entry in sorted(entries, key=lambda entry: entry.spills):
        turns[entry.name, entry.template] += 1
        ordered.append((entry.spills, turns[entry.name, entry.template], entry))
    return [entry for _, _, entry in sorted(ordered, key=lambda each: each[:2])]


class Unfinished:
    """What a build has so far: an earlier bundle of the same name, and lines in ``PATH.partial`` as they come.

    Args:
        bundle: The bundle's path.
        device: What it is built for.
        versions: Of what builds it.

    Raises:
        UserError: If the file of that name is something else, or was built for another device or otherwise.
    """

    def __init__(self, bundle: Path, device: DeviceInfo, versions: Mapping[str, str]) -> None:
        self._bundle = bundle
        self._path = bundle.with_name(bundle.name + ".partial")
        self.entries: dict[str, Entry] = {}
        self.failed: dict[str, Mapping[str, Any]] = {}
        header = {"partial": PARTIAL, "device": asdict(device), "versions": dict(versions)}
        if bundle.exists():
            self._take_over(Bundle.read(bundle), header)
        lines = read_lines(self._path)
        for line in lines[:1]:
            _check_same(line, header, self._path)
        for line in lines[1:]:
            self._hold(line)
        self._file = JsonLines(self._path)
        if not lines:
            self._file.append(header)

    def __contains__(self, candidate: Candidate) -> bool:
        return candidate.key in self.entries or candidate.key in self.failed

    def add(self, entry: Entry) -> None:
        """Keep a built candidate."""
        image = base64.b64encode(entry.program.image).decode()
        self.entries[entry.candidate] = entry
        self._file.append({"entry": entry.to_dict(), "machine_code": image})

    def add_failure(self, failure: Mapping[str, Any]) -> None:
        """Keep that a candidate does not compile."""
        self.failed[failure["candidate"]] = failure
        self._file.append({"failed": dict(failure)})

    def finish(self, order: Sequence[str], **fields: Any) -> Bundle:
        """Write the bundle and remove the lines; what was in an earlier bundle stays in it.

        Args:
            order: Keys of the planned candidates, in which operators and templates take their turns.
            fields: The bundle's other fields.
        """
        planned = [self.entries[key] for key in order if key in self.entries]
        others = [entry for key, entry in self.entries.items() if key not in set(order)]
        made = Bundle(entries=by_value([*planned, *others]), failed=tuple(self.failed.values()), **fields)
        made.write(self._bundle)
        self.close()
        self._path.unlink()
        return made

    def close(self) -> None:
        """Close the file of lines, which stays."""
        self._file.close()

    def _take_over(self, earlier: Bundle, header: Mapping[str, Any]) -> None:
        _check_same({"device": asdict(earlier.device), "versions": earlier.versions}, header, self._bundle)
        self.entries = {entry.candidate: entry for entry in earlier.entries}
        self.failed = {failure["candidate"]: failure for failure in earlier.failed}

    def _hold(self, line: Mapping[str, Any]) -> None:
        if "entry" in line:
            entry = Entry.from_dict(line["entry"], base64.b64decode(line["machine_code"]))
            self.entries[entry.candidate] = entry
        else:
            self.failed[line["failed"]["candidate"]] = line["failed"]


def _check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    differing = [name for name in ("device", "versions") if found.get(name) != wanted[name]]
    if differing:
        raise UserError(
            f"'{path}' was begun with other {' and '.join(differing)} than asked for now; name another file with "
            "bundle=, or remove that one"
        )

"""What was built of a bundle so far, so that it can be made in several goes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.planning import by_value
from wpk_envs.core import Candidate, DeviceInfo
from wpk_envs.devices.cuda.bundle import Bundle, Entry
from wpk_envs.errors import UserError
from wpk_envs.files import JsonLines, read_lines

PARTIAL = 1
"""Version of the file that holds what an unfinished build has so far."""


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
        self._any = len(lines) > 1
        if not lines:
            self._file.append(header)

    def __contains__(self, candidate: Candidate) -> bool:
        """Whether there is nothing to be built any more; what was too late or crashed gets another chance."""
        failure = self.failed.get(candidate.key)
        return candidate.key in self.entries or (failure is not None and failure["error"] == "compile")

    def add(self, entry: Entry) -> None:
        """Keep a built candidate."""
        image = base64.b64encode(entry.program.image).decode()
        self.entries[entry.candidate] = entry
        self.failed.pop(entry.candidate, None)
        self._file.append({"entry": entry.to_dict(), "machine_code": image})
        self._any = True

    def add_failure(self, failure: Mapping[str, Any]) -> None:
        """Keep that a candidate does not compile."""
        self.failed[failure["candidate"]] = failure
        self._file.append({"failed": dict(failure)})
        self._any = True

    def finish(self, order: Sequence[str], more: Iterable[Entry], **fields: Any) -> Bundle:
        """Write the bundle and remove the lines; what was in an earlier bundle stays in it.

        Args:
            order: Keys of the planned candidates, in which operators and templates take their turns.
            more: Entries that were not built here.
            fields: The bundle's other fields.
        """
        first = dict.fromkeys([*order, *self.entries])
        found = {key: self.entries[key] for key in first if key in self.entries}
        found |= {entry.candidate: entry for entry in more}
        made = Bundle(entries=by_value(found.values()), failed=tuple(self.failed.values()), **fields)
        made.write(self._bundle)
        self._any = False
        self.close()
        return made

    def close(self) -> None:
        """Close the file of lines; it stays if there is anything in it."""
        self._file.close()
        if not self._any:
            self._path.unlink(missing_ok=True)

    def _take_over(self, earlier: Bundle, header: Mapping[str, Any]) -> None:
        _check_same({"device": asdict(earlier.device), "versions": earlier.versions}, header, self._bundle)
        self.entries = {entry.candidate: entry for entry in earlier.entries}
        self.failed = {failure["candidate"]: failure for failure in earlier.failed}

    def _hold(self, line: Mapping[str, Any]) -> None:
        if "entry" in line:
            entry = Entry.from_dict(line["entry"], base64.b64decode(line["machine_code"]))
            self.entries[entry.candidate] = entry
            self.failed.pop(entry.candidate, None)
        else:
            self.failed[line["failed"]["candidate"]] = line["failed"]


def _check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    differing = [name for name in ("device", "versions") if found.get(name) != wanted[name]]
    if differing:
        raise UserError(
            f"'{path}' was begun with other {' and '.join(differing)} than asked for now; name another file with "
            "bundle=, or remove that one"
        )

"""Where figures come from: device, date, versions, seeds, and the command line that makes them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.reporting.collect import Result
from wpk_envs import operators
from wpk_envs.core import Operator
from wpk_envs.errors import UserError
from wpk_envs.records.library import TableFolder


@dataclass(frozen=True)
class Source:
    """One result and how to make it again.

    Attributes:
        what: In words.
        folder: Where it was read.
        device: Where it was measured, recorded or predicted.
        date: When, ISO 8601.
        seeds: In words.
        versions: By name.
        command: Its command line; none if the folder does not say.
    """

    what: str
    folder: str
    device: str
    date: str
    seeds: str
    versions: Mapping[str, str]
    command: str | None


def source_of(result: Result) -> Source:
    """Where a program's result comes from."""
    summary = result.summary
    predicted = ", predicted" if summary.get("predicted") else ""
    replayed = ", replayed from tables" if summary.get("recorded") else ""
    threads = f", {summary['threads']} thread{'s' if summary['threads'] > 1 else ''}" if summary.get("threads") else ""
    return Source(
        what=_what(result),
        folder=str(result.folder),
        device=f"{summary.get('device_name', 'not said')}{threads}{predicted}{replayed}",
        date=str(summary.get("date", "")),
        seeds=_seeds(summary),
        versions=summary.get("versions") or {},
        command=result.command,
    )


def _what(result: Result) -> str:
    summary = result.summary
    if result.kind == "run":
        return f"{summary['algo']} on {summary['op']}"
    if result.kind == "tables":
        return f"speedup tables of {len(summary['operators'])} operators"
    if result.kind == "transfer":
        return "study of transfer"
    return f"comparison of {len(summary['agents'])} agents"


def _seeds(summary: Mapping[str, Any]) -> str:
    if "seed" in summary:
        return str(summary["seed"])
    seeds = summary.get("seeds")
    return "0" if seeds == 1 else f"0 to {seeds - 1}" if isinstance(seeds, int) else ""


@dataclass(frozen=True)
class Sheet:
    """One operator's datasheet.

    Attributes:
        name: What it was recorded as.
        label: Its shape.
        facts: The datasheet.
        configs: Which configs, in words.
        failed: Failures by kind, in words; empty if there are none.
        command: The command line that records it again; none if the datasheet does not say enough.
    """

    name: str
    label: str
    facts: Mapping[str, Any]
    configs: str
    failed: str
    command: str | None


def sheets_of(folder: TableFolder) -> list[Sheet]:
    """The datasheets of a folder's operators."""
    return [_sheet(name, operator, folder.datasheet(operator)) for name, operator in folder.operators.items()]


def _sheet(name: str, operator: Operator, facts: Mapping[str, Any]) -> Sheet:
    protocol, counts = facts["protocol"], facts["counts"]
    space = f"the {protocol['space']} space" if "space" in protocol else "a choice of configs"
    failures = {kind: n for kind, n in counts.items() if kind not in ("rows", "measured", "predicted")}
    return Sheet(
        name=name,
        label=operator.label,
        facts=facts,
        configs=f"{'all' if protocol.get('whole') else 'a sample'} of {space}" if "space" in protocol else space,
        failed=", ".join(f"{number} {kind}" for kind, number in failures.items()),
        command=_record_command(name, operator, facts),
    )


def _record_command(name: str, operator: Operator, facts: Mapping[str, Any]) -> str | None:
    """The recording's command line, of an operator that can be named and a device that can be had."""
    protocol, device = facts["protocol"], facts["device"]
    try:
        named = operators.get(name) == operator
    except UserError:
        named = False
    if not named or "space" not in protocol or "predicted" in facts["counts"]:
        return None
    given = [f"device={device['kind']}", f"op={name}", f"space={protocol['space']}", f"seed={protocol['seed']}"]
    if device["threads"] > 1:
        given.append(f"device.threads={device['threads']}")
    if not protocol["whole"]:
        given.append(f"configs={facts['counts']['rows'] - protocol['elites']}")
    given += [f"{key}={protocol[key]}" for key in ("repeats", "elites") if protocol.get(key)]
    return shlex.join(["python", "-m", "experiments.record", *given])

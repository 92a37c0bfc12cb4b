"""Pretrained policies: files that hold weights, what they were trained on, and nothing that runs.

A policy is a safetensors file: arrays, and JSON that says of which encoding it is, how large its network is, what it
was trained on and how. ``load("epyc_suite")`` gives one that comes with the package.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wpk_envs import operators
from wpk_envs.core import Operator
from wpk_envs.envs.observation import fields
from wpk_envs.errors import UserError, unknown
from wpk_envs.files import write_whole
from wpk_envs.schedules.space import ScheduleSpace

if TYPE_CHECKING:
    from sb3_contrib import MaskablePPO

FORMAT = 1
KEY = "wpk_envs_policy"
"""Where the facts are in the file's metadata."""

SUFFIX = ".safetensors"
SHIPPED = Path(__file__).parent / "pretrained"
"""Policies that come with the package: a file each, or a folder of those that were trained alike."""

RANKING = "ranking"
"""The array that is no weight."""


@dataclass(frozen=True)
class Policy:
    """A pretrained policy in memory.

    Attributes:
        weights: Parameters of the network by name, ``float32``.
        ranking: Configs of the training tables, best on average first, ``uint8[configs, knobs]``.
        facts: Everything else as plain data: ``encoding`` (kind and version), ``fields`` of the observation,
            ``hidden`` width, ``operators`` and ``tables`` that it was trained on by name, ``recipe``, ``seed``,
            ``device_name``, ``date``, ``versions``.
    """

    weights: Mapping[str, np.ndarray]
    ranking: np.ndarray
    facts: Mapping[str, Any]

    @property
    def hidden(self) -> int:
        """Width of the two hidden layers."""
        return int(self.facts["hidden"])

    @property
    def names(self) -> tuple[str, ...]:
        """The operators it was trained on."""
        return tuple(self.facts["operators"])

    def has_seen(self, operator: Operator) -> bool:
        """Whether an operator is among those it was trained on."""
        return has_seen(self.facts, operator)

    def check_fits(self, space: ScheduleSpace) -> None:
        """Raise `UserError` unless it can act in a space."""
        why = misfit(self.facts, space)
        if why:
            raise UserError(why)

    def put_into(self, model: MaskablePPO) -> None:
        """Give a model of the same size these weights."""
        import torch

        model.policy.load_state_dict({name: torch.as_tensor(array) for name, array in self.weights.items()})


def has_seen(facts: Mapping[str, Any], operator: Operator) -> bool:
    """Whether an operator is among those that a policy with these facts was trained on."""
    return operator.key in {operators.from_dict(each).key for each in facts["operators"].values()}


def shipped() -> list[str]:
    """Names of the policies that come with the package."""
    return sorted({path.stem for path in SHIPPED.glob(f"*{SUFFIX}")} | {path.parent.name for path in _folders()})


def _folders() -> Iterator[Path]:
    return SHIPPED.glob(f"*/*{SUFFIX}")


def find(policy: str | Path) -> Path:
    """The file or folder of a policy.

    Args:
        policy: One of `shipped`, or a path.

    Raises:
        UserError: If there is none.
    """
    for path in (SHIPPED / f"{policy}{SUFFIX}", SHIPPED / str(policy), Path(policy).expanduser()):
        if path.exists():
            return path
    known = shipped()
    if Path(policy).suffix or "/" in str(policy) or not known:
        raise UserError(
            f"there is no policy '{policy}'; give a file or folder that python -m experiments.pretrain made"
            + (f", or one of {', '.join(known)}" if known else "")
        )
    raise unknown("policy", policy, known)


def load(policy: str | Path, space: ScheduleSpace | None = None, unseen: bool = True) -> Policy:
    """Read a policy, checked whole before anything of it is used.

    Args:
        policy: One of `shipped`, a file, or a folder of files.
        space: What it is to act in. Of a folder that policy is taken which was trained on the most operators among
            those that fit the space.
        unseen: Whether of a folder those come first that were not trained on the operator of the space.

    Raises:
        UserError: If there is none, or it is damaged or of another format.
    """
    path = find(policy)
    if path.is_dir():
        path = _best_of(path, space, unseen)
    with _explained(path), _opened(path) as file:
        facts = _facts(path, file)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    if _checksum(facts, arrays) != facts.get("sha256"):
        raise UserError(f"'{path}' is damaged: its checksum differs; get it again")
    return Policy({name: array for name, array in arrays.items() if name != RANKING}, arrays[RANKING], facts)


def save(policy: Policy, path: Path) -> None:
    """Write a policy, whole or not at all.

    Raises:
        OSError: If the disk refuses.
    """
    from safetensors.numpy import save as packed

    arrays = {name: np.ascontiguousarray(array) for name, array in policy.weights.items()}
    arrays[RANKING] = np.ascontiguousarray(policy.ranking)
    facts = {key: value for key, value in {"format": FORMAT, **policy.facts}.items() if key != "sha256"}
    facts["sha256"] = _checksum(facts, arrays)
    write_whole(path, packed(arrays, metadata={KEY: json.dumps(facts)}))


def _best_of(folder: Path, space: ScheduleSpace | None, unseen: bool) -> Path:
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(f"the folder '{folder}' has no policy; give one with files that end in {SUFFIX}")

    def worth(path: Path) -> tuple[bool, bool, int]:
        with _explained(path), _opened(path) as file:
            facts = _facts(path, file)
        fits = space is None or not misfit(facts, space)
        fresh = space is None or not unseen or not has_seen(facts, space.operator)
        return fits, fresh, len(facts["operators"])

    return max(paths, key=worth)


def misfit(facts: Mapping[str, Any], space: ScheduleSpace) -> str:
    """Why a policy with these facts cannot act in a space, in a sentence; empty if it can."""
    given, here = facts["encoding"], [space.encoding.device_kind, space.encoding.version]
    if given != here:
        return (
            f"the policy was trained on version {given[1]} of the encoding for {given[0]} devices, and here is version "
            f"{here[1]} of that for {here[0]}; train another with python -m experiments.pretrain"
        )
    if facts["fields"] != fields(space):
        return (
            "the policy was trained on observations of other fields than there are here; train another with "
            "python -m experiments.pretrain"
        )
    return ""


def _opened(path: Path) -> Any:
    from safetensors import safe_open

    return safe_open(path, framework="np")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what reading a file raises into a sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(f"'{path}' is damaged or no policy; get it again") from error


def _facts(path: Path, file: Any) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
        version = facts["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"'{path}' is damaged or no policy of this project; name another file") from error
    if version != FORMAT:
        raise UserError(f"'{path}' has format {version}, this version reads {FORMAT}; update wpk-envs")
    return facts


def _checksum(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    plain = {key: value for key, value in facts.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()

"""Bundles: many compiled kernels in one file, made where the compiler is and timed where the GPU is.

A bundle is a zip archive of ``manifest.json`` and of the machine code under ``images/``, each image named by
its SHA-256. It holds no pickled code, and reading one needs the standard library and numpy alone::

    {"format": 1, "device": {...}, "versions": {...}, "created": "2026-11-22T20:00:00+00:00", "seed": 0,
     "acceptance": false, "failed": [...],
     "entries": [{"name": "resnet18/2", "operator": {...}, "template": "cuda/gemm", "template_version": 1,
                  "config": {...}, "candidate": "0f...", "tolerance": 2e-5, "executed_flops": 1e9,
                  "build_seconds": 0.2, "expected": "correct", "image": "9a...", "program": {...}}]}

Entries are in order of their value: whoever has no time for all of them measures the first ones.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from wpk_envs import operators
from wpk_envs.core import Config, DeviceInfo, Operator
from wpk_envs.devices.cuda.gpu import runs_on
from wpk_envs.devices.cuda.program import Program
from wpk_envs.errors import UserError
from wpk_envs.files import replacing

FORMAT = 1
MANIFEST = "manifest.json"
EXPECTED = ("correct", "wrong", "crash", "endless")
"""How a kernel behaves: only bundles for acceptance have any that misbehave."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What Python raises for an archive whose bytes are not as they were written."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Archives of the same content have the same bytes."""


@dataclass(frozen=True)
class Entry:
    """One compiled candidate.

    Attributes:
        name: What its operator is called on the command line, such as ``"resnet18/2"``.
        operator: What it computes.
        template: The algorithm's name, such as ``"cuda/gemm"``.
        template_version: Its version when the kernel was built.
        config: The schedule's knobs.
        candidate: Key of operator, template, template version and config (`wpk_envs.core.Candidate.key`).
        tolerance: Largest accepted error relative to the reference's largest magnitude.
        executed_flops: Arithmetic that the kernel itself executes in one call.
        program: What a GPU is given.
        build_seconds: Scheduling, lowering and code generation.
        expected: One of `EXPECTED`.
    """

    name: str
    operator: Operator
    template: str
    template_version: int
    config: Config
    candidate: str
    tolerance: float
    executed_flops: float
    program: Program
    build_seconds: float = 0.0
    expected: str = "correct"

    @property
    def image(self) -> str:
        """SHA-256 of the program's machine code."""
        return hashlib.sha256(self.program.image).hexdigest()

    @property
    def spills(self) -> bool:
        """Whether the compiler ran out of registers."""
        return self.program.spill_bytes > 0

    def to_dict(self) -> dict[str, Any]:
        """Everything but the machine code, as plain data."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        nested = {
            "operator": self.operator.to_dict(),
            "config": dict(self.config),
            "program": self.program.to_dict(),
            "image": self.image,
        }
        return own | nested

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], image: bytes) -> Entry:
        """The inverse of `to_dict`.

        Raises:
            UserError: For an operator or a packing step that this version does not know.
            KeyError: For a missing field; TypeError or ValueError for one of another type.
        """
        if fields["expected"] not in EXPECTED:
            raise ValueError(f"expected is {fields['expected']!r}")
        return cls(
            name=str(fields["name"]),
            operator=operators.from_dict(fields["operator"]),
            template=str(fields["template"]),
            template_version=int(fields["template_version"]),
            config=dict(fields["config"]),
            candidate=str(fields["candidate"]),
            tolerance=float(fields["tolerance"]),
            executed_flops=float(fields["executed_flops"]),
            program=Program.from_dict(fields["program"], image),
            build_seconds=float(fields["build_seconds"]),
            expected=fields["expected"],
        )


@dataclass(frozen=True)
class Bundle:
    """What a bundle's file holds.

    Attributes:
        device: What the kernels were made for.
        versions: Versions of what made them.
        created: When, UTC, ISO 8601.
        seed: Of the choice of configs.
        entries: The kernels, the most valuable first.
        failed: Candidates that did not compile: name, template, config, candidate and message of each.
        acceptance: Whether it is for checking a GPU and this suite on it, not for measuring.
        sha256: Hash of the file it was read from; empty before it is written.
    """

    device: DeviceInfo
    versions: Mapping[str, str]
    created: str
    seed: int
    entries: Sequence[Entry]
    failed: Sequence[Mapping[str, Any]] = ()
    acceptance: bool = False
    sha256: str = field(default="", compare=False)

    @property
    def arch(self) -> str:
        """The architecture that the kernels are for, such as ``"sm_60"``."""
        return str(self.device.target["arch"])

    def check_runs_on(self, arch: str, gpu: str) -> None:
        """Raise `UserError` unless a GPU can run the kernels.

        Args:
            arch: The GPU's architecture.
            gpu: Its name.
        """
        if not runs_on(self.arch, arch):
            raise UserError(
                f"the bundle's kernels are for {self.arch} ({self.device.name}) but {gpu} has {arch}; build one for "
                "it: python -m experiments.record stage=build device=NAME op=NAME bundle=FILE"
            )

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: If the disk refuses.
        """
        images = {entry.image: entry.program.image for entry in self.entries}
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            text = json.dumps(self._manifest(), separators=(",", ":"), allow_nan=False)
            _add(archive, MANIFEST, text.encode())
            for name, image in images.items():
                _add(archive, f"images/{name}", image)

    def _manifest(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "device": asdict(self.device),
            "versions": dict(self.versions),
            "created": self.created,
            "seed": self.seed,
            "acceptance": self.acceptance,
            "failed": [dict(each) for each in self.failed],
            "entries": [entry.to_dict() for entry in self.entries],
        }

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """Read a file, and check all of it before anything in it is used.

        Raises:
            UserError: If it is missing, no bundle, damaged, cut off, or of another format than this version's.
        """
        try:
            with path.open("rb") as file:
                beginning, digest = file.read(4), hashlib.sha256()
                file.seek(0)
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            raise UserError(f"bundle '{path}' cannot be read: {error.strerror}; name a file that can") from error
        if beginning != b"PK\x03\x04":
            raise UserError(
                f"'{path}' is not a bundle; make one with python -m experiments.record stage=build bundle=PATH"
            )
        if not zipfile.is_zipfile(path):
            raise UserError(f"bundle '{path}' is cut off; copy it again")
        try:
            with zipfile.ZipFile(path) as archive:
                found = cls._from_archive(archive, path)
        except _DAMAGE as error:
            raise UserError(f"bundle '{path}' is damaged ({error}); copy it again") from error
        return replace(found, sha256=digest.hexdigest())

    @classmethod
    def _from_archive(cls, archive: zipfile.ZipFile, path: Path) -> Bundle:
        """Take the parts from an open archive; anything in `_DAMAGE` where its bytes are not as written."""
        if MANIFEST not in archive.namelist():
            raise UserError(f"'{path}' is an archive but not a bundle: it has no {MANIFEST}")
        manifest = json.loads(archive.read(MANIFEST))
        _check_format(manifest, path)
        images = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist() if name != MANIFEST}
        for name, image in images.items():
            if hashlib.sha256(image).hexdigest() != name:
                raise ValueError(f"the checksum of image {name[:12]} is wrong")
        try:
            return cls(
                device=DeviceInfo(**manifest["device"]),
                versions=dict(manifest["versions"]),
                created=str(manifest["created"]),
                seed=int(manifest["seed"]),
                entries=tuple(Entry.from_dict(each, images[each["image"]]) for each in manifest["entries"]),
                failed=tuple(dict(each) for each in manifest["failed"]),
                acceptance=bool(manifest["acceptance"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
            raise UserError(
                f"bundle '{path}' has content that this version cannot use ({type(error).__name__}: {error}); "
                "make it again with this version"
            ) from error


def _check_format(manifest: Any, path: Path) -> None:
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(version, int):
        raise UserError(f"'{path}' is an archive but not a bundle: its {MANIFEST} has no format")
    if version > FORMAT:
        raise UserError(
            f"bundle '{path}' is of format {version}, newer than {FORMAT}, the newest that this version of wpk-envs "
            "reads; use a newer version"
        )
    if version < FORMAT:
        raise UserError(f"bundle '{path}' is of format {version}, this version reads {FORMAT}; make it again")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.compress_type = zipfile.ZIP_LZMA
    archive.writestr(member, content)

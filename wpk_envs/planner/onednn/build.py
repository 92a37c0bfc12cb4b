"""Compile the shim against oneDNN's wheels, once per user: what was compiled is kept and found again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import platformdirs

from wpk_envs.errors import UserError
from wpk_envs.files import replacing
from wpk_envs.planner.cxx import compiler

SOURCE = Path(__file__).with_name("shim.cc")
FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden")
RUNTIME, HEADERS = "onednn-cpu-gomp", "onednn-devel-cpu-gomp"


@dataclass(frozen=True)
class Wheels:
    """oneDNN as its wheels installed it.

    Attributes:
        version: Of the wheels.
        library: The shared library.
        include: The folder of headers.
    """

    version: str
    library: Path
    include: Path


def wheels() -> Wheels:
    """Find oneDNN.

    Raises:
        UserError: If there are no wheels for the platform, or one is not installed.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UserError(f"oneDNN's wheels are for Linux on x86_64, and this is {sys.platform} on {platform.machine()}")
    library = _installed(RUNTIME, "libdnnl.so.3")
    header = _installed(HEADERS, "dnnl.hpp", within="oneapi")
    version, other = metadata.version(RUNTIME), metadata.version(HEADERS)
    if version != other:
        raise UserError(
            f"{RUNTIME} is {version} and {HEADERS} is {other}: pip install 'wpk-envs[planner]' installs matching ones"
        )
    return Wheels(version, library, header.parents[2])


def _installed(distribution: str, name: str, within: str = "") -> Path:
    """A file of a distribution by its name and the name of a folder above it."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name == name and (not within or within in file.parts) and path.exists():
            return path.resolve().with_name(name)
    raise UserError(f"the package {distribution} is not installed: pip install 'wpk-envs[planner]'")


def shim() -> Path:
    """The compiled shim: the one that is kept for this source, compiler and oneDNN, or a new one.

    Raises:
        UserError: If oneDNN or a compiler is missing, the compilation fails, or the disk refuses the result.
    """
    found, command = wheels(), compiler("oneDNN's shim")
    path = platformdirs.user_cache_path("wpk-envs") / "onednn" / f"shim-{_key(found, command)}.so"
    if whole(path):
        return path
    try:
        with replacing(path) as temporary:
            _compile(command, found, temporary)
            temporary.write_bytes(sealed(temporary.read_bytes()))
    except OSError as error:
        raise UserError(f"oneDNN's shim cannot be kept as {path}: {error.strerror or error}") from error
    return path


def _key(found: Wheels, command: list[str]) -> str:
    """What a shim depends on, as a name: another compiler, or an updated one, compiles another shim."""
    program = os.stat(command[0])
    parts = [SOURCE.read_text(), *FLAGS, *command, program.st_size, program.st_mtime_ns, found.version, found.library]
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def _compile(command: list[str], found: Wheels, target: Path) -> None:
    """Compile the shim; it finds oneDNN, and through it the OpenMP library, where the wheel put them."""
    linked = [str(found.library), "-Xlinker", "-rpath", "-Xlinker", str(found.library.parent)]
    line = [*command, *FLAGS, f"-I{found.include}", str(SOURCE), "-o", str(target), *linked]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"the C++ compiler {command[0]} could not compile oneDNN's shim: {error}") from error
    if done.returncode != 0:
        lines = [text.strip() for text in (done.stderr or done.stdout).splitlines() if text.strip()]
        told = next((text for text in lines if "error" in text.lower()), lines[0] if lines else "it said nothing")
        raise UserError(
            f"the C++ compiler {command[0]} could not compile oneDNN's shim ({told[:300]}): name another one with CXX"
        )


def sealed(content: bytes) -> bytes:
    """A file's content with its own digest behind it, which nothing that reads a shared library minds."""
    return content + hashlib.sha256(content).digest()


def whole(path: Path) -> bool:
    """Whether a sealed file is there, and as it was written."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        return content == sealed(content[: -hashlib.sha256().digest_size])
    return False

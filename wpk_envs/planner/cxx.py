"""The C++ compiler of this machine, if there is one: it compiles oneDNN's shim and links our kernels."""

from __future__ import annotations

import os
import shlex
import shutil

from wpk_envs.errors import UserError


def compiler(needed_by: str) -> list[str]:
    """The command of a C++ compiler: ``CXX`` if it is set, else c++, g++ or clang++.

    Args:
        needed_by: What it is for, as the errors say it.

    Raises:
        UserError: If there is none.
    """
    given = shlex.split(os.environ.get("CXX", ""))
    for program in given[:1] or ("c++", "g++", "clang++"):
        if found := shutil.which(program):
            return [found, *given[1:]]
    if given:
        raise UserError(
            f"CXX names '{given[0]}', which is no program that runs, and {needed_by} needs a C++ compiler: "
            "name one, or unset CXX"
        )
    raise UserError(f"there is no C++ compiler, which {needed_by} needs: install g++ or clang++, or name one with CXX")

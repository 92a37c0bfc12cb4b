"""The code of a plan's kernels in its folder: one shared library, or LLVM's code where nothing here can link one."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from wpk_envs.errors import UserError
from wpk_envs.planner.cxx import compiler
from wpk_envs.planner.kernels import tensors

LIBRARY = "kernels.so"
CODE = ".ll"
"""Ending of the files, one for each kernel, that hold LLVM's code of it."""


def write(folder: Path, modules: Mapping[str, Any]) -> str:
    """Write kernels.

    Args:
        folder: Where to.
        modules: What `tvm_adapter.build_cpu` made, by the kernel's name.

    Returns:
        Why they could not be linked and will be compiled when they are loaded, in a sentence; empty if they are.

    Raises:
        OSError: If the disk refuses.
    """
    from wpk_envs import tvm_adapter

    try:
        command = compiler("the library of a plan's kernels")
        tvm_adapter.export_library(list(modules.values()), folder / LIBRARY, command)
    except UserError as error:
        (folder / LIBRARY).unlink(missing_ok=True)
        for name, module in modules.items():
            (folder / f"{name}{CODE}").write_text(module.inspect_source(CODE.removeprefix(".")))
        return f"the plan compiles its kernels whenever it is loaded, about a tenth of a second for each: {error}"
    return ""


def load(folder: Path, names: Iterable[str]) -> dict[str, Callable[..., Any]]:
    """Load kernels, without importing TVM: linked ones take milliseconds then.

    Args:
        folder: What `write` filled.
        names: Of the kernels.
    """
    if (folder / LIBRARY).exists():
        library = _opened(folder / LIBRARY, "libtvm_runtime.so")
        return {name: library.get_function(name) for name in names}
    libraries = ("libtvm_runtime.so", "libtvm_compiler.so")
    return {name: _opened(folder / f"{name}{CODE}", *libraries).get_function(name) for name in names}


def _opened(path: Path, *needed: str) -> Any:
    """A module of TVM's in a file, once some of TVM's libraries are loaded."""
    ffi = tensors.tvm_ffi()
    found = importlib.util.find_spec("tvm")
    assert found is not None
    assert found.submodule_search_locations is not None
    for name in needed:
        ctypes.CDLL(str(Path(found.submodule_search_locations[0]) / "lib" / name), ctypes.RTLD_GLOBAL)
    return ffi.load_module(str(path))

"""``resume=FOLDER``: go on with an earlier run, in its folder and with its settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from wpk_envs.errors import UserError

_OVERRIDES = Path(".hydra") / "overrides.yaml"


def expand(overrides: Sequence[str], multirun: bool) -> list[str]:
    """Replace ``resume=FOLDER`` by the settings that FOLDER's run was given, followed by the ones given now.

    Settings given now win. The run's folder becomes FOLDER, so that its journal goes on.

    Args:
        overrides: The command line's overrides.
        multirun: Whether several jobs were asked for.

    Raises:
        UserError: If FOLDER is not the folder of one run, or if several jobs were asked for.
    """
    given = [override for override in overrides if _key(override) != "resume"]
    folders = [override.partition("=")[2] for override in overrides if _key(override) == "resume"]
    if not folders or folders[-1] in ("", "null"):
        return given
    if multirun:
        raise UserError("resume=FOLDER goes on with one run and cannot be used with -m; resume its jobs one by one")
    folder = Path(folders[-1].strip("'\"")).expanduser().absolute()
    new_keys = {_key(override) for override in given}
    kept = [override for override in _recorded(folder) if _key(override) not in new_keys | {"resume"}]
    return [*kept, *given, f"resume={_quoted(folder)}", f"hydra.run.dir={_quoted(folder)}"]


def _recorded(folder: Path) -> list[str]:
    if not (folder / _OVERRIDES).is_file():
        raise UserError(f"resume='{folder}' is not the folder of a run (it has no {_OVERRIDES}); name one that is")
    return [str(override) for override in OmegaConf.to_container(OmegaConf.load(folder / _OVERRIDES))]  # type: ignore


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

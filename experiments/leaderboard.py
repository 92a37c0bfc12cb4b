"""``python -m experiments.leaderboard``: results that can be checked, and the table of those that were.

python -m experiments.leaderboard                            the accepted submissions
python -m experiments.leaderboard verify=FILE add=true       check one and take it in
python -m experiments.leaderboard submit=outputs/compare/X   make submissions of a comparison
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig
from rich.console import Console

from experiments import progress, summary
from experiments.board.accepted import Leaderboard, shown, table
from experiments.board.making import from_comparison
from experiments.board.submission import Submission, read
from experiments.board.verification import Verdict, verify
from experiments.comparison.places import RECORDED, Place
from experiments.comparison.tables import EXPLANATION
from experiments.config import ProgramConfig, device_of
from experiments.files import check_writable, publish
from experiments.launcher import launch
from wpk_envs import devices, operators
from wpk_envs.core import Device
from wpk_envs.errors import UserError

SHIPPED = Path(__file__).parent / "results" / "leaderboard"
REASONS = 10
"""Reasons shown for a rejected submission; the summary has all."""


@dataclass
class LeaderboardConfig(ProgramConfig):
    """``python -m experiments.leaderboard``; the keys are explained in ``conf/leaderboard.yaml``."""

    device: Any = MISSING
    verify: str | None = None
    add: bool = False
    submit: str | None = None
    author: str = ""
    notes: str = ""
    tried: bool = True
    folder: str | None = None


ConfigStore.instance().store(name="leaderboard_schema", node=LeaderboardConfig)


def check(cfg: DictConfig) -> None:
    """Raise `UserError` for settings that cannot work together, before anything is written."""
    if cfg.verify is not None and cfg.submit is not None:
        raise UserError("verify= checks submissions and submit= makes them; give one of them")
    if cfg.add and cfg.verify is None:
        raise UserError("add=true takes in what verify=FILE accepts; say which file")
    if cfg.submit is None and (cfg.author or cfg.notes):
        raise UserError("author= and notes= go into the submissions that submit=FOLDER makes; leave them out")
    device = device_of(cfg.device)
    if device.name != RECORDED:
        devices.check_measures(device.name)
    check_writable(cfg.out)
    if cfg.verify is not None:
        _files(cfg.verify)


def act(cfg: DictConfig, folder: Path) -> None:
    """Do what is asked for and write the summary.

    Raises:
        UserError: If a submission is rejected, or for what else the user can mend.
    """
    action = "verify" if cfg.verify is not None else "submit" if cfg.submit is not None else "show"
    console = progress.console()
    result, complaint = ACTIONS[action](cfg, folder, console)
    publish({"action": action, **result, "date": summary.now()}, folder, cfg.out)
    if complaint:
        raise UserError(complaint)


def _show(cfg: DictConfig, folder: Path, console: Console) -> tuple[dict[str, Any], str]:
    boards = Leaderboard(_board_folder(cfg)).boards()
    for board in boards:
        console.print(table(board))
    if boards:
        console.print(EXPLANATION, highlight=False, markup=False)
    else:
        console.print(f"'{_board_folder(cfg)}' has no accepted submissions", highlight=False, markup=False)
    return {"boards": boards}, ""


def _submit(cfg: DictConfig, folder: Path, console: Console) -> tuple[dict[str, Any], str]:
    made = from_comparison(Path(cfg.submit).expanduser(), cfg.author, cfg.notes, cfg.tried)
    target = folder / "submissions"
    for label, submission in made.items():
        submission.write(target / f"{label}.json")
    console.print(
        f"{len(made)} submissions are in {target}; check them with python -m experiments.leaderboard verify={target}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return {"submissions": {label: str(target / f"{label}.json") for label in made}}, ""


def _verify(cfg: DictConfig, folder: Path, console: Console) -> tuple[dict[str, Any], str]:
    results, complaints = {}, []
    with devices.open_device(**device_of(cfg.device).settings) as device:
        for path in _files(cfg.verify):
            submission, verdict = examine(path, device)
            _tell(console, path, verdict)
            results[str(path)] = {"accepted": verdict.accepted, "reasons": verdict.reasons}
            if submission is None or not verdict.accepted:
                complaints.append(f"'{path}' is rejected: {shown(verdict.reasons[0], 300)}")
            elif cfg.add:
                added = Leaderboard(_board_folder(cfg)).add(submission, verdict)
                console.print(f"taken in as {added}", highlight=False, markup=False, soft_wrap=True)
    return {"files": results}, "; ".join(complaints)


def examine(path: Path, device: Device) -> tuple[Submission | None, Verdict]:
    """Read and verify a submission.

    Args:
        path: The file.
        device: Where its claims are checked.

    Returns:
        The submission, none if the file is none; and what came of it.
    """
    try:
        submission = read(path)
    except UserError as error:
        return None, Verdict([str(error)])
    return submission, verify(submission, _place(device, submission))


def _place(device: Device, submission: Submission) -> Place:
    """The device with the operators of a submission, as far as they are known."""
    if device.replays:
        return Place(device, None)
    known = {*operators.names()}
    for suite in operators.suites().values():
        known |= {f"{suite.name}/{member.number}" for member in suite.members}
    return Place(device, [op for op in submission.operators if op in known])


def _tell(console: Console, path: Path, verdict: Verdict) -> None:
    lines = [f"{path}: {'accepted' if verdict.accepted else 'rejected'}"]
    lines += [f"  {shown(reason, 300)}" for reason in verdict.reasons[:REASONS]]
    if len(verdict.reasons) > REASONS:
        lines.append(f"  and {len(verdict.reasons) - REASONS} reasons more")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _files(given: str) -> list[Path]:
    """The files to be verified.

    Raises:
        UserError: If there is no such file, or none in the folder.
    """
    path = Path(given).expanduser().absolute()
    if path.is_dir():
        found = sorted(each for each in path.glob("*.json") if each.name not in ("accepted.json", "summary.json"))
        if not found:
            raise UserError(f"verify='{path}' is a folder without submissions (files that end in .json)")
        return found
    if not path.exists():
        raise UserError(f"verify='{path}' does not exist; name a submission, or a folder of them")
    return [path]


def _board_folder(cfg: DictConfig) -> Path:
    return SHIPPED if cfg.folder is None else Path(cfg.folder).expanduser().absolute()


Action = Callable[[DictConfig, Path, Console], tuple[dict[str, Any], str]]
ACTIONS: dict[str, Action] = {"show": _show, "submit": _submit, "verify": _verify}
"""What each does: the summary of it, and a complaint if there is one."""


def main() -> None:
    """The command line."""
    launch("leaderboard", task=act, check=check)


if __name__ == "__main__":
    main()

"""The project's W&B workspace and report, as objects of ``wandb-workspaces``, and their specs as plain data."""

from __future__ import annotations

import json
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from experiments.dashboards.panels import Group, groups
from experiments.loggers.settings import WandbConfig

TITLE = "WPK Envs"

INTRODUCTION = (
    "Reinforcement-learning environments for tensor-program schedule search: actions set the knobs of a TVM "
    "schedule, the reward is measured speedup. Everything here is made by python -m experiments.dashboard from "
    "what the programs log."
)

READING = (
    "Read measured and predicted figures apart: whatever has the word predicted in its name comes from an "
    "analytical model of a GPU that was not there. A measured speedup is over the fastest of all the vendor's "
    "paths, weights packed ahead of the call, both sides timed in turns in one process; a candidate whose result "
    "is wrong is an error and is never timed."
)

COMMANDS = """\
pip install -e .
python -m experiments.run -m algo=ppo,ga,random seed=1,2,3 logger.mode=online   # searches
python -m experiments.run op=resnet18/all logger.mode=online                    # every operator of a network
wandb sync outputs/run/*/wandb/offline-run-*                                    # runs that were logged offline
python -m experiments.dashboard save=true                                       # this page"""


def workspace(config: WandbConfig, entity: str) -> ws.Workspace:
    """The workspace: a section per group of panels, those of predictions closed.

    Args:
        config: Project, and the group of runs if not all.
        entity: Whose project it is.
    """
    sections = [
        ws.Section(name=group.name, panels=group.panels, is_open="predicted" not in group.name) for group in groups()
    ]
    settings = ws.RunsetSettings(filters=_only(config))
    return ws.Workspace(entity=entity, project=config.project, name=TITLE, sections=sections, runset_settings=settings)


def report(config: WandbConfig, entity: str) -> wr.Report:
    """The report: the same panels with what they show in words, and how to reproduce them.

    Args:
        config: Project, and the group of runs if not all.
        entity: Whose project it is.
    """
    blocks: list[Any] = [wr.P(INTRODUCTION), wr.TableOfContents()]
    for group in groups():
        blocks += [wr.H2(group.name), wr.P(group.text), _grid(group, config)]
    blocks += [wr.H2("How to read this"), wr.P(READING)]
    blocks += [wr.H2("How to reproduce this"), wr.MarkdownBlock(f"```sh\n{COMMANDS}\n```")]
    return wr.Report(
        project=config.project, entity=entity, title=TITLE, description=INTRODUCTION, blocks=blocks, width="fluid"
    )


def _grid(group: Group, config: WandbConfig) -> wr.PanelGrid:
    runs = wr.Runset(name=group.name, filters=_only(config, ws.Metric("JobType") == group.job))
    return wr.PanelGrid(runsets=[runs], panels=group.panels)


def _only(config: WandbConfig, *filters: Any) -> Any:
    """The filter of runs: those of the group, if one is given, and what else is said."""
    of_group = [] if config.group is None else [ws.Metric("Group") == config.group]
    return ws.And(*filters, *of_group) if filters or of_group else ""


def spec(board: ws.Workspace | wr.Report) -> dict[str, Any]:
    """What saving the board would upload, as plain data; nothing is asked of W&B."""
    model = board._to_model()  # the library has no public name for it
    return json.loads(model.model_dump_json(by_alias=True, exclude_none=True))

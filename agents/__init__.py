"""Search algorithms, a file each, behind the contract of `agents.base.Agent`."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from agents.base import Agent, CurvePoint, TuningResult
from wpk_envs.errors import unknown

__all__ = ["Agent", "CurvePoint", "TuningResult", "agent_class", "get", "names"]

_CLASSES = {
    "ppo": "agents.ppo:PPO",
    "ppo_oneshot": "agents.ppo_oneshot:PPOOneShot",
    "ppo_refine": "agents.ppo_refine:PPORefine",
    "ppo_screened": "agents.ppo_screened:PPOScreened",
    "ga": "agents.ga:GeneticAlgorithm",
    "local_search": "agents.local_search:LocalSearch",
    "annealing": "agents.annealing:Annealing",
    "tpe": "agents.tpe:TPE",
    "surrogate": "agents.surrogate:Surrogate",
    "transfer": "agents.transfer:Transfer",
    "ranking": "agents.ranking:Ranking",
    "ranking_ga": "agents.ranking:RankingGA",
    "random": "agents.random_search:RandomSearch",
    "metaschedule": "agents.metaschedule:MetaSchedule",
    "random_policy": "agents.random_policy:RandomPolicy",
    "random_policy_oneshot": "agents.random_policy:RandomPolicyOneShot",
    "random_policy_refine": "agents.random_policy:RandomPolicyRefine",
}


def names() -> list[str]:
    """Names of all agents."""
    return list(_CLASSES)


def agent_class(name: str) -> type[Agent]:
    """The dataclass of an agent, whose fields are its settings (imports torch for some).

    Raises:
        UserError: If there is no such agent.
    """
    if name not in _CLASSES:
        raise unknown("algo", name, _CLASSES)
    module, _, cls = _CLASSES[name].partition(":")
    return getattr(importlib.import_module(module), cls)


def get(name: str, **settings: Any) -> Agent:
    """Make an agent.

    Args:
        name: One of `names`.
        settings: Fields of its dataclass.

    Raises:
        UserError: If the name, a setting or a setting's value is not allowed.
    """
    cls = agent_class(name)
    allowed = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for setting in settings:
        if setting not in allowed:
            raise unknown(f"setting of algo {name}", setting, allowed)
    return cls(**settings)

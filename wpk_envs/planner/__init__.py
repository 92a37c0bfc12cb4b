"""The inference planner: import a model, optimise its graph, choose an implementation per operator, run the plan.

``wpk_envs.planner.load("plan")(x)`` runs a plan that ``python -m experiments.plan`` wrote.
"""

from wpk_envs.planner.plan import Plan, load

__all__ = ["Plan", "load"]

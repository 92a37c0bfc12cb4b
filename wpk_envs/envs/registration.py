"""Gymnasium ids: ``wpk/Conv3x3-v0`` and one more for every named operator, and ``wpk/Suite-v0`` for many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from typing import Any

import gymnasium as gym

from wpk_envs import operators
from wpk_envs.core import Device, Operator
from wpk_envs.envs.schedule_env import ScheduleEnv
from wpk_envs.envs.suite import Suite
from wpk_envs.envs.vector_env import ScheduleVectorEnv
from wpk_envs.errors import UserError, unknown
from wpk_envs.schedules import build_space
from wpk_envs.tuning import Budget, Records, TuningProblem

SUITE_ID = "wpk/Suite-v0"


def env_id(operator: str) -> str:
    """The id of a named operator: ``conv3x3_s2`` gives ``wpk/Conv3x3S2-v0``."""
    return f"wpk/{''.join(word.capitalize() for word in operator.split('_'))}-v0"


def register_all() -> None:
    """Register the id of every named operator and that of suites; again is harmless."""
    for name in operators.names():
        if env_id(name) not in gym.registry:
            gym.register(
                env_id(name),
                entry_point="wpk_envs.envs.registration:make_env",
                vector_entry_point="wpk_envs.envs.registration:make_vector_env",
                nondeterministic=True,
                kwargs={"operator": name},
            )
    if SUITE_ID not in gym.registry:
        gym.register(
            SUITE_ID,
            entry_point="wpk_envs.envs.registration:make_suite_env",
            vector_entry_point="wpk_envs.envs.registration:make_vector_suite_env",
            nondeterministic=True,
        )


def make_env(
    operator: str, formulation: str = "construct", render_mode: str | None = None, **settings: Any
) -> ScheduleEnv:
    """Make the environment of a named operator; ``gym.make(id, ...)`` calls this.

    Args:
        operator: Its name; the id sets it.
        formulation: ``"construct"``, ``"one_shot"`` or ``"refine"``.
        render_mode: ``"ansi"`` or none.
        settings: See `open_problem`.

    Raises:
        UserError: If a name is unknown or a value not allowed.
    """
    with ExitStack() as opened:
        problem = open_problem(opened, operator, **settings)
        env = ScheduleEnv(problem, formulation, render_mode)
        env.on_close = opened.pop_all().close
        return env


def make_vector_env(
    operator: str, num_envs: int, formulation: str = "construct", render_mode: str | None = None, **settings: Any
) -> ScheduleVectorEnv:
    """Make the natively batched environment of a named operator; ``gym.make_vec(id, ...)`` calls this.

    Args:
        operator: Its name; the id sets it.
        num_envs: Number of sub-environments.
        formulation: ``"construct"``, ``"one_shot"`` or ``"refine"``.
        render_mode: ``"ansi"`` or none.
        settings: See `open_problem`.

    Raises:
        UserError: If a name is unknown or a value not allowed.
    """
    with ExitStack() as opened:
        problem = open_problem(opened, operator, **settings)
        env = ScheduleVectorEnv(problem, num_envs, formulation, render_mode)
        env.on_close = opened.pop_all().close
        return env


def make_suite_env(
    operators: Sequence[str] | None = None,
    formulation: str = "construct",
    render_mode: str | None = None,
    **settings: Any,
) -> ScheduleEnv:
    """Make the environment that draws an operator at every reset; ``gym.make("wpk/Suite-v0", ...)`` calls this.

    Args:
        operators: Names of the operators to draw from; none for every recorded one of a device that replays, every
            named one elsewhere.
        formulation: ``"construct"``, ``"one_shot"`` or ``"refine"``.
        render_mode: ``"ansi"`` or none.
        settings: See `open_suite`.

    Raises:
        UserError: If a name is unknown or a value not allowed.
    """
    with ExitStack() as opened:
        env = ScheduleEnv(open_suite(opened, operators, **settings), formulation, render_mode)
        env.on_close = opened.pop_all().close
        return env


def make_vector_suite_env(
    num_envs: int,
    operators: Sequence[str] | None = None,
    formulation: str = "construct",
    render_mode: str | None = None,
    **settings: Any,
) -> ScheduleVectorEnv:
    """Make the natively batched `make_suite_env`; ``gym.make_vec("wpk/Suite-v0", ...)`` calls this.

    Every sub-environment draws for itself.

    Args:
        num_envs: Number of sub-environments.
        operators: See `make_suite_env`; so are the others.
        formulation: ``"construct"``, ``"one_shot"`` or ``"refine"``.
        render_mode: ``"ansi"`` or none.
        settings: See `open_suite`.

    Raises:
        UserError: If a name is unknown or a value not allowed.
    """
    with ExitStack() as opened:
        env = ScheduleVectorEnv(open_suite(opened, operators, **settings), num_envs, formulation, render_mode)
        env.on_close = opened.pop_all().close
        return env


def open_problem(
    opened: ExitStack,
    operator: str,
    device: str | Device = "auto",
    store: str | PathLike[str] | Records | bool = True,
    reuse: bool = True,
    budget: Budget | int | None = None,
    threads: int | None = None,
    op: Mapping[str, Any] | None = None,
) -> TuningProblem:
    """Open what a tuning problem needs.

    Args:
        opened: Closes what is opened here; what was given stays the caller's.
        operator: Name of an operator.
        device: The name of a device (see `wpk_envs.devices.open_device`), or an open device.
        store: Where measurements are kept: true is the user's store, false keeps nothing.
        reuse: Whether records of earlier runs may answer instead of the device.
        budget: Limits; a number limits the trials, none is without limit.
        threads: Threads that one kernel uses on the CPU, 1 if none; part of an open device, so not given with one.
        op: Fields of the operator to change, such as ``{"height": 28}``.

    Raises:
        UserError: If a name is unknown or a value not allowed.
    """
    shape = operators.override(operator, **(op or {}))
    limits = budget if isinstance(budget, Budget) else Budget(trials=budget)
    place = _device(opened, device, threads)
    space = build_space(shape, place.info, among=place.configs(shape))
    return TuningProblem(shape, place, space, _store(opened, store), limits, reuse)


def open_suite(
    opened: ExitStack,
    names: Sequence[str] | None = None,
    device: str | Device = "auto",
    store: str | PathLike[str] | Records | bool = True,
    reuse: bool = True,
    budget: Budget | int | None = None,
    threads: int | None = None,
) -> Suite:
    """Open what a suite of tuning problems needs.

    Args:
        opened: Closes what is opened here; what was given stays the caller's.
        names: Of operators; none for every recorded one of a device that replays, every named one elsewhere.
        device: See `open_problem`; so are the others.
        store: One for all.
        reuse: Whether records of earlier runs may answer instead of the device.
        budget: Limits of each operator's problem.
        threads: Threads that one kernel uses on the CPU.

    Raises:
        UserError: If a name is unknown or a value not allowed.
    """
    place = _device(opened, device, threads)
    records = _store(opened, store)
    limits = budget if isinstance(budget, Budget) else Budget(trials=budget)
    chosen = _operators(place, names)
    spaces = {name: build_space(shape, place.info, among=place.configs(shape)) for name, shape in chosen.items()}
    problems = {n: TuningProblem(chosen[n], place, space, records, limits, reuse) for n, space in spaces.items()}
    return Suite(problems)


def _operators(device: Device, names: Sequence[str] | None) -> dict[str, Operator]:
    """Operators by name; a device that replays knows those that it has by the names of their recording."""
    known: Mapping[str, Operator] = getattr(device, "operators", {})
    if names is None:
        names = list(known) or operators.names()
    for name in names:
        if known and name not in known:
            raise unknown("recorded operator", name, known)
    return {name: known[name] if known else operators.get(name) for name in names}


def _device(opened: ExitStack, device: str | Device, threads: int | None) -> Device:
    if not isinstance(device, Device):
        from wpk_envs.devices import open_device

        return opened.enter_context(open_device(device, **({} if threads is None else {"threads": threads})))
    if threads not in (None, device.info.threads):
        raise UserError(
            f"threads={threads} was given with an open device of {device.info.threads} threads; "
            "leave threads out, or give the device by name"
        )
    return device


def _store(opened: ExitStack, store: str | PathLike[str] | Records | bool) -> Records | None:
    from wpk_envs.records.store import Store

    if isinstance(store, bool):
        path = None
        if not store:
            return None
    elif isinstance(store, (str, PathLike)):
        path = store
    else:
        return store
    own = Store(path)
    opened.callback(own.close)
    return own

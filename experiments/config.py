"""The config schema of every program, and the groups ``op``, ``algo``, ``device``, ``budget`` and ``logger``.

Groups that list what the library has (operators, agents) are filled from its registries, so there is one
definition of each. Every key is typed: Hydra refuses unknown keys and values of a wrong type.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

import agents
from experiments.figures import TARGETS
from experiments.loggers import settings as loggers
from experiments.loggers.settings import LoggerConfig
from wpk_envs import devices, operators
from wpk_envs.core import DeviceInfo, Operator
from wpk_envs.errors import UserError, unknown
from wpk_envs.tuning import Budget


@dataclass
class BudgetConfig:
    """What a run may spend; null means no limit."""

    trials: int | None = 128
    seconds: float | None = None


@dataclass
class DeviceConfig:
    """Where candidates are measured or predicted, or what they are compiled for."""

    name: str = MISSING

    @property
    def settings(self) -> dict[str, Any]:
        """What `wpk_envs.devices.open_device` is called with."""
        return dict(vars(self))


@dataclass
class AutoConfig(DeviceConfig):
    """``device=auto``."""

    name: str = "auto"
    threads: int | None = None
    workers: int | None = None
    deadline: float | None = None


@dataclass
class CpuConfig(DeviceConfig):
    """``device=cpu``."""

    name: str = "cpu"
    threads: int = 1
    workers: int | None = None
    deadline: float | None = None


@dataclass
class CudaConfig(DeviceConfig):
    """``device=cuda``."""

    name: str = "cuda"
    gpus: list[int] | None = None
    protocol: str = "cold"
    tf32: bool = False
    workers: int | None = None
    deadline: float | None = None


@dataclass
class RecordedConfig(DeviceConfig):
    """``device=recorded``."""

    name: str = "recorded"
    tables: str | None = None
    noise: bool = False
    seed: int = 0


@dataclass
class GpuConfig(DeviceConfig):
    """A named GPU, to predict or to compile for; ``conf/device/NAME.yaml`` has its values and their sources."""

    confidence: str = "any"
    workers: int | None = None
    deadline: float | None = None

    model: str = MISSING
    matches: list[str] = MISSING
    arch: str = MISSING
    multiprocessors: int = MISSING
    threads_per_block: int = MISSING
    threads_per_sm: int = MISSING
    blocks_per_sm: int = MISSING
    registers_per_thread: int = MISSING
    registers_per_sm: int = MISSING
    shared_bytes_per_block: int = MISSING
    shared_bytes_per_sm: int = MISSING
    l2_bytes: int = MISSING
    fp32_lanes_per_sm: int = MISSING
    clock_mhz: int = MISSING
    memory_gbps: int = MISSING

    @property
    def settings(self) -> dict[str, Any]:
        """What `wpk_envs.devices.open_device` is called with; by which names drivers know the GPU is of no concern."""
        return {key: value for key, value in vars(self).items() if key != "matches"}


@dataclass
class StoreConfig:
    """The records of every measurement."""

    path: str | None = None
    reuse: bool = True


@dataclass
class ProgramConfig:
    """Keys that every program has."""

    out: str | None = None
    store: StoreConfig = field(default_factory=StoreConfig)


@dataclass
class RunConfig(ProgramConfig):
    """``python -m experiments.run``."""

    op: Any = MISSING
    algo: Any = MISSING
    device: Any = MISSING
    budget: BudgetConfig = MISSING
    logger: LoggerConfig = MISSING
    seed: int = 0
    resume: str | None = None


@dataclass
class BenchConfig(ProgramConfig):
    """``python -m experiments.bench``."""

    figures: list[str] = field(default_factory=lambda: list(TARGETS))
    algo: Any = MISSING
    device: Any = MISSING
    budget: BudgetConfig = MISSING
    seed: int = 0


@functools.cache
def register() -> None:
    """Put every schema and group option into Hydra's store, once."""
    # Hydra copies the whole store at every composition, though it also copies each node that it loads: the
    # first is what composing would spend its time on.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RunConfig)
    store.store(name="bench_schema", node=BenchConfig)
    for node in (AutoConfig(), CpuConfig(), CudaConfig(), RecordedConfig()):
        store.store(group="device", name=node.name, node=node)
    store.store(group="schema", name="gpu", node=GpuConfig)
    store.store(group="budget", name="default", node=BudgetConfig())
    store.store(group="budget", name="quick", node=BudgetConfig(trials=32))
    for logger in loggers.nodes():
        store.store(group="logger", name=logger.name, node=logger)
    for name in agents.names():
        store.store(group="algo", name=name, node=agent_node(name))
    for name, node in operator_nodes().items():
        group, _, option = f"op/{name}".rpartition("/")
        store.store(group=group, name=option, node=node, package="op")


def agent_node(name: str) -> Any:
    """An agent's settings with their defaults, and its name."""
    cls = agents.agent_class(name)
    types = get_type_hints(cls)
    fields: list[Any] = [("name", str, name)]
    fields += [(each.name, types[each.name], each.default) for each in dataclasses.fields(cls)]  # type: ignore
    return dataclasses.make_dataclass(f"{cls.__name__}Config", fields)()


def operator_nodes() -> dict[str, Any]:
    """The ``op`` group: one node per named operator, suite member and ``SUITE/all``.

    A field that is null has the value of the named operator.
    """
    nodes: dict[str, Any] = {}
    for name in operators.names():
        nodes[name] = _operator_node(name, operators.get(name))
    for suite in operators.suites().values():
        for member in suite.members:
            nodes[f"{suite.name}/{member.number}"] = _operator_node(f"{suite.name}/{member.number}", member.operator)
        nodes[f"{suite.name}/all"] = {"name": f"{suite.name}/all"}
    return nodes


def _operator_node(name: str, operator: Operator) -> Any:
    return _operator_schema(type(operator))(name=name)


@functools.cache
def _operator_schema(cls: type[Operator]) -> type:
    """An operator class's fields, all optional; number-or-pair fields take anything, the operator checks them."""
    some = next(op for op in map(operators.get, operators.names()) if type(op) is cls)
    fields: list[Any] = [("name", str, MISSING)]
    for each in dataclasses.fields(some):
        value = getattr(some, each.name)
        annotation = Any if isinstance(value, tuple) else type(value) | None
        fields.append((each.name, annotation, None))
    return dataclasses.make_dataclass(f"{cls.__name__}Config", fields)


def operators_of(cfg: DictConfig) -> dict[str, Operator]:
    """The operators that ``op=`` asks for, by name: one, or every member of a suite.

    Args:
        cfg: The ``op`` node.

    Raises:
        UserError: For shapes that cannot exist.
    """
    chosen = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(chosen, dict)
    name = str(chosen.pop("name"))
    suite, _, member = name.partition("/")
    if member == "all":
        return {f"{suite}/{each.number}": each.operator for each in operators.suites()[suite].members}
    fields = {str(key): value for key, value in chosen.items() if value is not None}
    try:
        return {name: operators.override(name, **fields)}
    except UserError as error:
        raise UserError(f"op={name}: {error}") from error


def device_of(cfg: DictConfig) -> DeviceConfig:
    """The ``device`` node as an object; its `DeviceConfig.settings` are for `wpk_envs.devices.open_device`.

    Raises:
        UserError: If there is no device of that name, or no such confidence.
    """
    device = OmegaConf.to_object(cfg)
    assert isinstance(device, DeviceConfig)
    devices.check_name(device.name)
    if isinstance(device, GpuConfig) and device.confidence not in devices.CONFIDENCES:
        raise unknown("device.confidence", device.confidence, devices.CONFIDENCES)
    return device


def target_of(cfg: DictConfig) -> DeviceInfo:
    """What to compile for, from a ``device`` node that is a named GPU.

    Raises:
        UserError: For another device, and for values or an architecture that cannot be.
    """
    from wpk_envs.devices.cuda import descriptions

    plain = {str(key): value for key, value in cfg.items()}
    name = plain.pop("name")
    if name not in descriptions.names():
        raise unknown("GPU to compile for, device", name, descriptions.names())
    for key in ("confidence", "workers", "deadline"):
        if plain.pop(key) != getattr(GpuConfig, key):
            raise UserError(f"device.{key} is a setting of predictions, and here kernels are only built; leave it out")
    return descriptions.describe(name, **{key: value for key, value in plain.items() if key != "matches"})


def budget_of(cfg: DictConfig) -> Budget:
    """The budget, checked."""
    return Budget(trials=cfg.trials, seconds=cfg.seconds)

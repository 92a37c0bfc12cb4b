"""What is wrong with a command line, in one sentence.

Hydra stops at the first thing it dislikes and says little. Here the overrides are looked at one by one,
against the groups and keys that the program's config really has.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from wpk_envs.errors import UserError

_KINDS = {
    "converted to Integer": "a whole number",
    "converted to Float": "a number",
    "not a valid bool": "true or false",
}
"""What a value should have been, by what OmegaConf says of it."""


@contextlib.contextmanager
def explained(program: str, overrides: Sequence[str], multirun: bool = False) -> Iterator[None]:
    """Turn Hydra's and OmegaConf's errors into a `UserError` that names what would have been allowed.

    Args:
        program: The program, whose primary config is ``conf/PROGRAM.yaml``.
        overrides: The command line's overrides.
        multirun: Whether an override may give several values.
    """
    try:
        yield
    except OverrideParseException as error:
        raise UserError(f"'{error.override}' cannot be read; write KEY=VALUE, and quote special characters") from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_complaint(program, overrides, multirun) or one_line(error)) from error


def check_signs(overrides: Sequence[Override]) -> None:
    """Refuse Hydra's signs for adding and removing keys: the keys of a program are fixed.

    Raises:
        UserError: If an override of another key than Hydra's own starts with ``+`` or ``~``.
    """
    for override in overrides:
        if (override.is_add() or override.is_delete()) and not override.key_or_group.startswith("hydra"):
            raise UserError(f"'{override.input_line}' is refused: keys cannot be added or removed; write KEY=VALUE")


def one_line(error: BaseException) -> str:
    """An exception's message, and that of its cause if it is about the config, on one line."""
    lines = str(error).splitlines()
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines += str(error.__cause__).splitlines()
    words = [line.strip() for line in lines if line.strip() and "object_type=" not in line]
    return " ".join(words) or type(error).__name__


def _complaint(program: str, overrides: Sequence[str], multirun: bool) -> str | None:
    """The first override that cannot be, as a sentence; none if each is fine by itself."""
    with hydra.initialize_config_module("conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
        for override in parsed:
            if override.is_sweep_override() and not multirun:
                return _several(override)
        groups = [override for override in parsed if _options(loader, override.key_or_group)]
        chosen = [str(group.input_line) for group in groups if not group.is_sweep_override()]
        default = hydra.compose(program, return_hydra_config=True)
        sentences = [_about_choice(program, loader, default, override) for override in groups]
        if not any(sentences):
            sentences = [_about_value(program, chosen, override) for override in parsed if override not in groups]
        return next(filter(None, sentences), None)


def _options(loader: ConfigLoader, group: str) -> list[str]:
    """The options of a config group, those of its subgroups as ``subgroup/option``."""
    options = loader.get_group_options(group, ObjectType.CONFIG)
    for subgroup in loader.get_group_options(group, ObjectType.GROUP):
        options += [f"{subgroup}/{option}" for option in loader.get_group_options(f"{group}/{subgroup}")]
    return [str(option) for option in options]


def _values(override: Override) -> list[str]:
    """The value of an override, or each of a sweep's."""
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _several(override: Override) -> str:
    return (
        f"'{override.input_line}' gives several values; add -m to run each of them, "
        f"choose one, or write {override.key_or_group}=[...] for a list"
    )


def _about_choice(program: str, loader: ConfigLoader, default: DictConfig, override: Override) -> str | None:
    """What is wrong with the choice of a group's option."""
    group = override.key_or_group
    if group not in default.hydra.runtime.choices:
        return _not_among(default, group, "")
    options = _options(loader, group)
    if group == "experiment":  # the group holds those of every program
        options = [option for option in options if _composes(program, f"{group}={option}")]
    for value in _values(override):
        if value.strip("'\"") not in options:
            close = difflib.get_close_matches(value, options, n=2)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            return f"unknown {group} '{value}'{hint} (allowed: {', '.join(_condensed(options))})"
    return None


def _composes(program: str, override: str) -> bool:
    try:
        hydra.compose(program, overrides=[override])
    except HydraException:
        return False
    return True


def _condensed(options: Sequence[str]) -> list[str]:
    """Options in a readable order, the numbered members of a suite as a range."""
    plain = sorted(option for option in options if "/" not in option)
    suites: dict[str, list[str]] = {}
    for option in options:
        suite, slash, member = option.partition("/")
        if slash:
            suites.setdefault(suite, []).append(member)
    for suite, members in sorted(suites.items()):
        numbers = sorted(int(member) for member in members if member.isdigit())
        if numbers:
            plain.append(f"{suite}/{numbers[0]} to {suite}/{numbers[-1]}")
        plain += [f"{suite}/{member}" for member in members if not member.isdigit()]
    return plain


def _about_value(program: str, chosen: Sequence[str], override: Override) -> str | None:
    """What is wrong with the value given for a key, under the chosen groups."""
    key = override.key_or_group
    cfg = hydra.compose(program, overrides=list(chosen), return_hydra_config=True)
    unknown = _unknown_key(cfg, key)
    if unknown:
        return unknown
    for value in _values(override):
        try:
            hydra.compose(program, overrides=[*chosen, f"{key}={value}"])
        except ConfigCompositionException as error:
            return _bad_value(key, value, error)
    return None


def _unknown_key(cfg: DictConfig, key: str) -> str | None:
    """The sentence for a key that the config does not have; none if it has it."""
    parent: Any = cfg
    parts = key.replace("/", ".").split(".")
    for depth, part in enumerate(parts):
        if not isinstance(parent, DictConfig):
            return f"unknown key '{key}'; {'.'.join(parts[:depth])} is one value and has no keys below it"
        if part not in parent:
            return _not_among(parent, key, ".".join(parts[:depth]))
        parent = parent._get_node(part)
    return None


def _not_among(parent: DictConfig, key: str, path: str) -> str:
    name = parent.get("name")
    if path == "op" and str(name).endswith("/all"):
        suite = str(name).removesuffix("/all")
        return f"'{key}' cannot be set with op={name}, whose members run as they are; choose one (op={suite}/NUMBER)"
    children = [str(child) for child in parent if child != "hydra"]
    allowed = [f"{path}.{child}" if path else child for child in children]
    close = difflib.get_close_matches(key, allowed, n=2)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"unknown key '{key}'{hint} (allowed: {', '.join(sorted(allowed))})"


def _bad_value(key: str, value: str, error: ConfigCompositionException) -> str:
    reason = one_line(error.__cause__ or error)
    for kind, words in _KINDS.items():
        if kind in reason:
            return f"{key} must be {words}, not '{value}'"
    if "is not a ListConfig" in reason:
        return f"{key} must be a list, such as {key}=[{value}]"
    return f"{key}={value} is refused: {reason}"

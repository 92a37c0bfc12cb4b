"""The named operators: the only place that defines what ``op=NAME`` means."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from wpk_envs.core import Operator
from wpk_envs.errors import UserError, unknown
from wpk_envs.operators.checks import pair, whole_number
from wpk_envs.operators.conv2d import Conv2d
from wpk_envs.operators.fused import FusedOperator
from wpk_envs.operators.gemm import Gemm
from wpk_envs.operators.suites import NETWORKS, suite, suites

KINDS: dict[str, type[FusedOperator]] = {cls.kind: cls for cls in (Conv2d, Gemm)}

NAMED: dict[str, FusedOperator] = {
    "conv3x3": Conv2d(),
    "conv3x3_s2": Conv2d(filters=128, stride=2),
    "conv1x1": Conv2d(filters=256, kernel=1, padding=0),
    "conv7x7_s2": Conv2d(channels=3, height=224, width=224, kernel=7, stride=2, padding=3),
    "depthwise3x3": Conv2d(channels=144, filters=144, groups=144),
    "gemm": Gemm(512, 512, 512),
    "gemv": Gemm(1, 1000, 512),
    "bert_ffn": Gemm(128, 3072, 768, bias=True),
}


def names() -> list[str]:
    """Names of the single operators, in the order in which they are shown; suites are in `suites`."""
    return list(NAMED)


def get(name: str) -> FusedOperator:
    """Look up an operator by its name, such as ``"conv3x3"`` or ``"resnet18/3"``.

    Raises:
        UserError: For an unknown name or a member number that the suite does not have.
    """
    if name in NAMED:
        return NAMED[name]
    network = str(name).partition("/")[0]
    if network not in NETWORKS:
        raise _unknown_operator(name)
    members = {f"{network}/{member.number}": member.operator for member in suite(network).members}
    if name not in members:
        raise UserError(
            f"'{name}' is no single operator of {network}: "
            f"its members are {network}/1 to {network}/{len(members)}, by first occurrence"
        )
    return members[name]


def _unknown_operator(name: str) -> UserError:
    ranges = [f"{each.name}/1..{each.name}/{len(each.members)}" for each in suites().values()]
    close = difflib.get_close_matches(str(name), [*NAMED, *NETWORKS], n=2)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return UserError(f"unknown operator '{name}'{hint} (allowed: {', '.join([*NAMED, *ranges])})")


def from_dict(fields: Mapping[str, Any]) -> FusedOperator:
    """Make the operator that `Operator.to_dict` wrote.

    Raises:
        UserError: For an unknown kind, an unknown or missing field, and shapes that cannot exist.
    """
    values = dict(fields)
    kind = values.pop("kind", None)
    if str(kind) not in KINDS:
        raise unknown("operator kind", kind, KINDS)
    cls = KINDS[str(kind)]
    _check_names(cls, values)
    missing = [each.name for each in dataclasses.fields(cls) if each.default is dataclasses.MISSING]
    missing = [name for name in missing if name not in values]
    if missing:
        raise UserError(f"a {kind} operator needs a value for {', '.join(missing)}")
    return cls(**values)


def override(operator: Operator | str, **fields: Any) -> FusedOperator:
    """Change fields of an operator, keeping what its name promises.

    A new kernel or dilation without padding gets 'same' padding, ``dilation * (kernel - 1) // 2`` in each
    dimension. New channels without groups keep a depthwise convolution depthwise, its filters in proportion.

    Args:
        operator: An operator, or the name of one.
        fields: New values by field name.

    Raises:
        UserError: For unknown names or fields, values of a wrong type, and shapes that cannot exist.
    """
    base = get(operator) if isinstance(operator, str) else operator
    _check_names(type(base), fields)
    if isinstance(base, Conv2d):
        fields = _keep_depthwise(base, fields)
        if fields.keys() & {"kernel", "dilation"} and "padding" not in fields:
            fields["padding"] = _same_padding(base, fields)
    return dataclasses.replace(base, **fields)  # type: ignore[return-value]


def _check_names(cls: type[Operator], values: Mapping[str, Any]) -> None:
    allowed = [field.name for field in dataclasses.fields(cls)]
    for name in values:
        if name not in allowed:
            raise unknown(f"field of a {cls.kind} operator", name, allowed)


def _same_padding(base: Conv2d, fields: Mapping[str, Any]) -> tuple[int, int]:
    kernel = pair("kernel", fields.get("kernel", base.kernel))
    dilation = pair("dilation", fields.get("dilation", base.dilation))
    return dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2


def _keep_depthwise(base: Conv2d, fields: dict[str, Any]) -> dict[str, Any]:
    if not base.is_depthwise or "channels" not in fields or "groups" in fields:
        return fields
    channels = whole_number("channels", fields["channels"])
    return {"filters": base.filters // base.groups * channels, **fields, "groups": channels}

"""A space of configs that were listed one by one, such as those of a recorded table."""

from __future__ import annotations

from collections.abc import Sequence

from wpk_envs.core import Config, DeviceInfo, Operator, Template
from wpk_envs.schedules.space import INVALID_NODE, DiagramBuilder, Encoding, Prefix, ScheduleSpace


class ListedSpace(ScheduleSpace):
    """The space whose valid configs are those of a list, with masks as exact as any space's.

    Args:
        operator: What is computed.
        device: Where.
        templates: Candidates; those that do not fit the operator are left out.
        encoding: The device kind's knobs.
        configs: At least one; repeats are welcome, and configs of other templates are left out.

    Raises:
        UserError: If no template fits, or a config has a knob or an option that the encoding lacks.
    """

    def __init__(
        self,
        operator: Operator,
        device: DeviceInfo,
        templates: Sequence[Template],
        encoding: Encoding,
        configs: Sequence[Config],
    ) -> None:
        names = {template.name.split("/")[-1] for template in templates}
        self._configs = [config for config in configs if config.get("template") in names]
        super().__init__(operator, device, templates, encoding)

    def _build(self, builder: DiagramBuilder) -> int:
        vectors = sorted({self.encode(config) for config in self._configs})
        return self._below(builder, vectors, 0)

    def _below(self, builder: DiagramBuilder, vectors: Sequence[Prefix], depth: int) -> int:
        """The node of sorted vectors that agree on the knobs before this depth."""
        if depth == self.length:
            return 0
        groups: dict[int, list[Prefix]] = {}
        for vector in vectors:
            groups.setdefault(vector[depth], []).append(vector)
        options = range(len(self.encoding.knobs[depth].options))
        children = [self._below(builder, groups[o], depth + 1) if o in groups else INVALID_NODE for o in options]
        return builder.node(depth, tuple(children))

    def explain(self, vector: Sequence[int]) -> str:
        """Why a full vector is invalid, in a sentence; empty if it is valid."""
        if self.is_valid(vector):
            return ""
        return super().explain(vector) or "this config is not one of those that were recorded"

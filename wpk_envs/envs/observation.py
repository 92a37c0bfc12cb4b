"""The observation: one flat float32 vector that every operator of a device kind, and every formulation, shares.

Its parts, in this order, with the names that `fields` gives them:

=====================  ====================================================================================
``knob.<name>``        one per knob of the encoding: -1 while not set, else its option's place in [0, 1]
``next.<name>``        one per knob: 1 for the knob to be set next, else 0 (all 0 once a config is complete)
``operator.<feature>`` `wpk_envs.core.Operator.features`, constant within an environment
``device.<feature>``   `wpk_envs.core.DeviceInfo.features`, constant within an environment
``static.<feature>``   `wpk_envs.core.Template.static_features` of the schedule so far: register tile, cache
                       footprint, arithmetic intensity; 0 before the template is chosen
``last.log_speedup``   natural logarithm of the speedup measured (or predicted) last in this episode, 0 before it
``last.failed``        1 if that measurement was an error, else 0
=====================  ====================================================================================

Every entry is finite and clipped to [-`BOUND`, `BOUND`].
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from wpk_envs.core import KnobValue, Measurement
from wpk_envs.schedules.space import ScheduleSpace

BOUND = 4.0
"""Limit of every entry: features are about [0, 1], and a log speedup of 4 would be a factor of 54."""

STATIC_FEATURES = ("register_tile", "footprint", "intensity")


def fields(space: ScheduleSpace) -> list[str]:
    """Names of the observation's entries, in order."""
    knobs = [knob.name for knob in space.encoding.knobs]
    return [
        *(f"knob.{name}" for name in knobs),
        *(f"next.{name}" for name in knobs),
        *(f"operator.{name}" for name in space.operator.features()),
        *(f"device.{name}" for name in space.device.features()),
        *(f"static.{name}" for name in STATIC_FEATURES),
        "last.log_speedup",
        "last.failed",
    ]


class Observer:
    """Writes the observations of one schedule space into arrays made by `blank`.

    The methods change single entries of an array in place, so that a step costs a few assignments.

    Args:
        space: The schedule space; it fixes the length of the observation and its constant parts.
    """

    def __init__(self, space: ScheduleSpace) -> None:
        self.space = space
        self.box = spaces.Box(-BOUND, BOUND, (len(fields(space)),), dtype=np.float32)
        self._scale = [1.0 / max(1, len(knob.options) - 1) for knob in space.encoding.knobs]
        self._names = [knob.name for knob in space.encoding.knobs]
        self._static = len(fields(space)) - len(STATIC_FEATURES) - 2
        self._blank = self._constants()

    def _constants(self) -> np.ndarray:
        features = [*self.space.operator.features().values(), *self.space.device.features().values()]
        blank = np.zeros(self.box.shape, dtype=np.float32)
        blank[: self.space.length] = -1.0
        blank[self._static - len(features) : self._static] = np.clip(features, -BOUND, BOUND)
        blank[self.space.length] = 1.0
        return blank

    def blank(self) -> np.ndarray:
        """The observation before any knob is set, ``float32[fields]``."""
        return self._blank.copy()

    def set_knob(self, observation: np.ndarray, position: int, option: int) -> None:
        """Note that a knob was set, and that the one after it comes next."""
        length = self.space.length
        observation[position] = option * self._scale[position]
        observation[length + position] = 0.0
        if position + 1 < length:
            observation[length + position + 1] = 1.0

    def set_config(self, observation: np.ndarray, vector: tuple[int, ...]) -> None:
        """Note a complete config."""
        for position, option in enumerate(vector):
            self.set_knob(observation, position, option)
        if self.space.is_valid(vector):
            self.set_static(observation, self.space.decode(vector))

    def set_static(self, observation: np.ndarray, partial: dict[str, KnobValue]) -> None:
        """Note the static features of a schedule whose template is chosen."""
        template = self.space.templates[str(partial["template"])]
        features = template.static_features(self.space.operator, partial, self.space.device)
        observation[self._static : self._static + len(STATIC_FEATURES)] = features

    def set_outcome(self, observation: np.ndarray, measurement: Measurement, reward: float) -> None:
        """Note what the last measurement gave."""
        observation[-2] = min(reward, BOUND)
        observation[-1] = float(measurement.error is not None)

"""Default schedules: one documented config per operator, what anybody might write first, with nothing tuned.

They are the reference of devices on which no vendor's library can be timed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from wpk_envs.core import Candidate, DeviceInfo, KnobValue, Operator
from wpk_envs.errors import UserError
from wpk_envs.schedules import ScheduleSpace, build_space, templates_for
from wpk_envs.schedules.space import Prefix

PREFERRED = ("gemm", "depthwise_conv", "direct_conv", "implicit_gemm_conv")
"""Templates whose default is taken, the first that fits: so a 1x1 convolution that is a plain product has GEMM's."""


def default_candidate(operator: Operator, device: DeviceInfo) -> Candidate:
    """The default schedule of an operator on a device.

    It is the valid config nearest to `Template.default` of the first template in `PREFERRED` that fits.

    Raises:
        UserError: If no template with a default has a valid config.
    """
    templates = {template.name.split("/")[-1]: template for template in templates_for(device.kind)}
    for name in PREFERRED:
        template = templates.get(name)
        if template is None or not template.default or not template.fits(operator, device):
            continue
        try:
            space = build_space(operator, device, [name])
        except UserError:  # it fits, but no config of it is valid on this device
            continue
        return space.candidate(nearest(space, {"template": name, **template.default}))
    raise UserError(f"there is no default schedule for {operator.label} on {device.name}; choose another operator")


def nearest(space: ScheduleSpace, wanted: Mapping[str, KnobValue]) -> Prefix:
    """The valid vector whose knobs are nearest to the wanted values, all together.

    The distance of two numbers is that of their logarithms, of two words 1 unless they are equal; distances add up.
    Of vectors equally near the first is taken.
    """
    knobs = space.encoding.knobs

    @functools.cache
    def rest(node: int, depth: int) -> tuple[float, Prefix]:
        """The least distance from a node on, and the options that lead there."""
        if depth == len(knobs):
            return 0.0, ()
        knob, found = knobs[depth], []
        for option in map(int, np.flatnonzero(space.masks[node])):
            beyond, options = rest(space.child(node, option), depth + 1)
            found.append((_distance(knob.options[option], wanted.get(knob.name)) + beyond, (option, *options)))
        return min(found)

    return rest(space.root, 0)[1]


def _distance(option: KnobValue, wanted: KnobValue | None) -> float:
    if isinstance(option, int) and isinstance(wanted, int):
        return abs(math.log(option / wanted))
    return float(option != wanted)

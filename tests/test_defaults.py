"""Default schedules: one per operator, valid, and as near to the documented values as the operator allows."""

from __future__ import annotations

import math

import pytest

from tests.store_samples import DEVICE
from tests.synthetic import medium_space, tiny_space
from wpk_envs import operators
from wpk_envs.devices.cuda.descriptions import describe
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.schedules import build_space, defaults, encoding_for, templates_for
from wpk_envs.schedules.defaults import PREFERRED, default_candidate, nearest

P100 = describe("p100")


@pytest.mark.parametrize(
    ("operator", "template"),
    [
        (operators.get("conv3x3"), "direct_conv"),
        (operators.get("conv1x1"), "gemm"),
        (operators.get("conv7x7_s2"), "direct_conv"),
        (operators.get("depthwise3x3"), "depthwise_conv"),
        (operators.get("gemv"), "gemm"),
        (operators.get("resnet18/14"), "direct_conv"),
        (Conv2d(channels=8, filters=8, height=14, width=14, kernel=(1, 1), padding=(1, 1)), "direct_conv"),
        (Conv2d(channels=12, filters=6, height=9, width=5, groups=3), "direct_conv"),
        (Gemm(m=1, n=1, k=1), "gemm"),
    ],
)
def test_every_operator_has_one(operator, template):
    candidate = default_candidate(operator, P100)
    assert candidate.template.name == f"cuda/{template}"
    assert candidate.operator == operator
    space = build_space(operator, P100, [template])
    assert space.is_valid(space.encode(candidate.config))
    assert default_candidate(operator, P100).key == candidate.key


def test_documented_values_are_taken_where_the_operator_allows_them():
    for name, but in {"conv1x1": {}, "conv3x3": {"tile_oh": 7}, "depthwise3x3": {}}.items():
        candidate = default_candidate(operators.get(name), P100)
        assert {**candidate.template.default, **but} == {k: v for k, v in candidate.config.items() if k != "template"}


def test_documented_values_are_options():
    options = {knob.name: knob.options for knob in encoding_for("cuda").knobs}
    for template in templates_for("cuda"):
        assert set(template.default) in (set(), set(template.knobs))
        assert all(value in options[name] for name, value in template.default.items())
        assert bool(template.default) == (template.name.split("/")[1] in PREFERRED)


@pytest.mark.parametrize("space", [tiny_space(), medium_space()], ids=["tiny", "medium"])
def test_the_nearest_config_is_the_nearest_of_all(space):
    def distance(vector, wanted):
        far = 0.0
        for knob, option in zip(space.encoding.knobs, vector):
            value, goal = knob.options[option], wanted.get(knob.name)
            numbers = isinstance(value, int) and isinstance(goal, int)
            far += abs(math.log(value / goal)) if numbers else float(value != goal)
        return far

    knobs = space.encoding.knobs
    for shift in range(7):
        wanted = {knob.name: knob.options[(shift + place) % len(knob.options)] for place, knob in enumerate(knobs)}
        least = min(distance(vector, wanted) for vector in space)
        assert distance(nearest(space, wanted), wanted) == pytest.approx(least)


def test_a_valid_config_is_nearest_to_itself():
    space = tiny_space()
    assert all(nearest(space, space.decode(vector)) == vector for vector in space)


def test_without_a_template_that_has_one_it_is_a_sentence(monkeypatch):
    monkeypatch.setattr(defaults, "PREFERRED", ("winograd_conv",))
    with pytest.raises(UserError, match=r"no default schedule for conv2d .* on Test CPU; choose another"):
        default_candidate(Conv2d(), DEVICE)

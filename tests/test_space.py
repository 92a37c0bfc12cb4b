from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.synthetic import ENCODING, INFO, SyntheticTemplate, medium_space, tiny_space
from wpk_envs.core import Constraint, Knob
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d
from wpk_envs.schedules.space import Encoding, ScheduleSpace


@st.composite
def small_spaces(draw: st.DrawFn) -> tuple[Encoding, list[SyntheticTemplate]]:
    """Random knobs, templates that use some of them, and constraints given as random tables."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=2, max_size=5))
    names = [f"k{i}" for i in range(len(sizes))]
    knobs = [Knob(name, tuple(range(size)), "random") for name, size in zip(names, sizes)]
    templates = []
    for template in ("one", "two"):
        used = tuple(name for name in names if draw(st.booleans()))
        rules = (
            [draw(constraints(used, dict(zip(names, sizes)))) for _ in range(draw(st.integers(0, 3)))] if used else []
        )
        templates.append(SyntheticTemplate(template, used, rules))
    return Encoding("cpu", 1, (Knob("template", ("one", "two"), "which"), *knobs)), templates


@st.composite
def constraints(draw: st.DrawFn, used: tuple[str, ...], sizes: dict[str, int]) -> Constraint:
    chosen = tuple(draw(st.lists(st.sampled_from(used), min_size=1, max_size=3, unique=True)))
    values = list(itertools.product(*(range(sizes[name]) for name in chosen)))
    table = {value for value in values if draw(st.integers(0, 3))}
    return Constraint(chosen, lambda *given: given in table, "a random table")


def brute_force(encoding: Encoding, templates: list[SyntheticTemplate]) -> list[tuple[int, ...]]:
    """All valid vectors, by checking every rule on every combination."""
    found = []
    for vector in itertools.product(*(range(len(knob.options)) for knob in encoding.knobs)):
        template = templates[vector[0]]
        config = {knob.name: knob.options[option] for knob, option in zip(encoding.knobs, vector)}
        unused = [config[knob.name] for knob in encoding.knobs[1:] if knob.name not in template.knobs]
        obeyed = all(rule.allows(*(config[name] for name in rule.knobs)) for rule in template.rules)
        if obeyed and not any(unused):
            found.append(vector)
    return found


@settings(max_examples=60, deadline=None)
@given(small_spaces(), st.randoms(use_true_random=False))
def test_against_brute_force(drawn, random) -> None:
    encoding, templates = drawn
    valid = brute_force(encoding, templates)
    if not valid:
        with pytest.raises(UserError, match="is valid for"):
            ScheduleSpace(Conv2d(), INFO, templates, encoding)
        return
    space = ScheduleSpace(Conv2d(), INFO, templates, encoding)
    assert space.size == len(valid)
    assert list(space) == valid
    assert [space.unrank(rank) for rank in range(space.size)] == valid
    check_masks(space, valid)
    check_vectors(space, valid)
    check_configs(space, random.choice(valid), valid)


def check_masks(space: ScheduleSpace, valid: list[tuple[int, ...]]) -> None:
    """An option is allowed if and only if some valid vector continues so, for every prefix there is."""
    every = [range(len(knob.options)) for knob in space.encoding.knobs]
    for length in range(space.length):
        continued = {vector[: length + 1] for vector in valid}
        for prefix in itertools.product(*every[:length]):
            expected = [(*prefix, option) in continued for option in range(space.encoding.width)]
            assert space.mask(prefix).tolist() == expected


def check_vectors(space: ScheduleSpace, valid: list[tuple[int, ...]]) -> None:
    for vector in itertools.product(*(range(len(knob.options)) for knob in space.encoding.knobs)):
        assert space.is_valid(vector) == (vector in valid)
        repaired = space.repair(vector)
        assert repaired in valid
        assert vector not in valid or repaired == vector


def check_configs(space: ScheduleSpace, vector: tuple[int, ...], valid: list[tuple[int, ...]]) -> None:
    config = space.decode(vector)
    assert space.encode(config) == vector
    assert space.explain(vector) == ""
    differing = [other for other in valid if sum(a != b for a, b in zip(vector, other)) == 1]
    assert sorted(space.neighbours(vector)) == [other for other in differing if other[0] == vector[0]]


def test_decode_leaves_out_knobs_that_the_template_lacks() -> None:
    space = tiny_space()
    assert space.decode((1, 2, 0, 1)) == {"template": "fancy", "tile": 4, "order": "column"}
    assert space.decode((0, 2)) == {"template": "plain", "tile": 4}
    assert (space.size, space.count(space.child(space.root, 0)), space.length) == (20, 12, 4)


def test_explain_names_the_broken_rule() -> None:
    space = tiny_space()
    assert space.explain((0, 4, 2, 0)) == "tile=16, unroll=4 breaks the rule: at most 16 unrolled steps"
    assert "knob tile has options 0..4, not 7" in space.explain((0, 7, 0, 0))
    assert "absent does not fit here (fitting: plain, fancy)" in space.explain((2, 0, 0, 0))
    assert "has 4 options, one per knob, not 2" in space.explain((0, 0))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"template": "plain", "tile": 3, "unroll": 1}, r"knob tile is given 3, its options are \[1, 2, 4, 8, 16\]"),
        ({"template": "plain", "tile": 4}, "knob unroll is given 'nothing'"),
        ({"template": "plain", "tile": 4, "unroll": 1, "colour": 1}, r"unknown knobs \['colour'\]"),
        ({"template": "absent"}, "needs a template that fits"),
        ({}, "needs a template that fits"),
    ],
)
def test_encode_refuses_configs_that_cannot_be(config: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny_space().encode(config)


def test_unrank_refuses_ranks_outside() -> None:
    space = tiny_space()
    for rank in (-1, space.size):
        with pytest.raises(IndexError, match=r"outside 0\.\.19"):
            space.unrank(rank)


def test_a_constraint_on_knobs_that_the_template_lacks_is_a_defect() -> None:
    rule = Constraint(("order",), lambda order: order == "row", "rows only")
    with pytest.raises(ValueError, match="knobs it does not have"):
        ScheduleSpace(Conv2d(), INFO, [SyntheticTemplate("plain", ("tile",), [rule])], ENCODING)


@pytest.mark.parametrize("space", [tiny_space(), medium_space()], ids=["tiny", "medium"])
def test_samples_are_uniform(space: ScheduleSpace) -> None:
    rng = np.random.default_rng(0)
    ranks = {vector: rank for rank, vector in enumerate(space)}
    bins = min(space.size, 100)
    counts = np.zeros(bins)
    for _ in range(5000):
        counts[ranks[space.sample(rng)] * bins // space.size] += 1
    expected = np.bincount(np.arange(space.size) * bins // space.size) / space.size * 5000
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_a_space_of_billions_is_small_and_quick(record_property) -> None:
    """Ten knobs of ten options with chained and long-range rules; sizes are exact, speed is only reported."""
    names = [f"k{i}" for i in range(10)]
    knobs = (Knob("template", ("plain",), "the algorithm"), *(Knob(n, tuple(range(1, 11)), "ten") for n in names))
    rules = [Constraint(pair, lambda a, b: a * b <= 80, "a product") for pair in itertools.pairwise(names)]
    rules.append(Constraint((names[0], names[9]), lambda a, b: a + b >= 3, "a sum"))
    template = SyntheticTemplate("plain", tuple(names), rules)
    started = time.perf_counter()
    space = ScheduleSpace(Conv2d(), INFO, [template], Encoding("cpu", 1, knobs))
    built = time.perf_counter() - started
    assert space.size == chained_count(10)
    assert space.size > 10**9
    assert len(space.masks) < 5000
    rng = np.random.default_rng(0)
    vectors = [space.sample(rng) for _ in range(200)]
    assert all(space.is_valid(vector) for vector in vectors)
    started = time.perf_counter()
    for vector in vectors:
        assert space.mask(vector[:5])[vector[5]]
    record_property("build_ms", 1e3 * built)
    record_property("mask_us", 1e6 * (time.perf_counter() - started) / len(vectors))


def chained_count(length: int) -> int:
    """Number of sequences over 1..10 whose neighbours multiply to at most 80 and whose ends sum to 3 or more."""
    step = np.array([[int(a * b <= 80) for b in range(1, 11)] for a in range(1, 11)], dtype=object)
    ends = np.linalg.matrix_power(step, length - 1)
    return int(ends.sum() - ends[0, 0])

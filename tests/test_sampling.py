"""Choosing configs for a bundle."""

import itertools
from collections import Counter

import pytest

from tests.synthetic import medium_space, tiny_space
from wpk_envs.schedules import sampling
from wpk_envs.schedules.sampling import shares, spread


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [
        ([100, 100, 100], 30, [10, 10, 10]),
        ([100, 100, 100], 31, [11, 10, 10]),
        ([3, 100, 100], 30, [3, 14, 13]),
        ([5, 5], 1, [1, 1]),
        ([5, 5], 99, [5, 5]),
        ([2, 1, 2], 4, [2, 1, 1]),
    ],
)
def test_shares(sizes, total, expected):
    assert shares(sizes, total) == expected


def test_every_config_comes_once():
    space = tiny_space()
    assert Counter(spread(space, seed=0)) == Counter(space)


def test_no_template_is_missed_and_each_gets_its_part():
    space = medium_space()
    names = [space.decode(vector)["template"] for vector in itertools.islice(spread(space, seed=1), 40)]
    assert set(names[:2]) == set(space.templates)
    assert min(Counter(names).values()) >= 10


def test_the_documented_default_comes_first():
    space = tiny_space()
    space.templates["plain"].default = {"tile": 16, "unroll": 2}  # not valid together
    first, second = (space.decode(vector) for vector in itertools.islice(spread(space, seed=3), 2))
    assert first == {"template": "plain", "tile": 8, "unroll": 2}, "the first of the nearest that are"
    assert second["template"] == "fancy"
    assert Counter(spread(space, seed=3)) == Counter(space)


def test_the_order_follows_from_the_seed():
    space = medium_space()
    order = [list(itertools.islice(spread(space, seed), 9)) for seed in (1, 1, 2)]
    assert order[0] == order[1] != order[2]


def test_large_spaces_are_drawn_from(monkeypatch):
    monkeypatch.setattr(sampling, "SMALL", 2)
    space = tiny_space()
    assert Counter(spread(space, seed=0)) == Counter(space)

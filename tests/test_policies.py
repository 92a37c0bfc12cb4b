from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from agents import policies
from agents.policies import Policy, load, save
from tests.synthetic import medium_space, tiny_space
from tests.synthetic_landscapes import medium, pretrained, tiny
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d
from wpk_envs.schedules.space import Encoding, ScheduleSpace


@pytest.fixture(scope="module")
def policy() -> Policy:
    return pretrained(tiny(28), tiny(14)).policy()


@pytest.fixture
def path(policy, tmp_path):
    save(policy, tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


def test_what_was_saved_is_loaded(policy, path) -> None:
    again = load(path)
    assert again.weights.keys() == policy.weights.keys()
    assert all(np.array_equal(again.weights[name], policy.weights[name]) for name in policy.weights)
    np.testing.assert_array_equal(again.ranking, policy.ranking)
    assert policy.facts.items() <= again.facts.items()
    assert again.names == ("conv28", "conv14")
    assert again.has_seen(Conv2d(height=14))
    assert not again.has_seen(Conv2d(height=7))
    assert path.stat().st_size < 1 << 20


def test_a_file_holds_nothing_that_runs(path) -> None:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F32", "U8"}
    assert list(header["__metadata__"]) == [policies.KEY]


@pytest.mark.parametrize("place", [3, 60, 1000, -5])
def test_damage_is_refused(path, place) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged|has format"):
        load(path)


def test_other_files_are_refused(policy, path, tmp_path) -> None:
    for content in (b"", path.read_bytes()[:-40], b"something else"):
        (tmp_path / "odd.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=r"odd\.safetensors' is damaged or no policy"):
            load(tmp_path / "odd.safetensors")
    save(dataclasses.replace(policy, facts={**policy.facts, "format": 7}), path)
    with pytest.raises(UserError, match="has format 7, this version reads 1; update wpk-envs"):
        load(path)
    with pytest.raises(UserError, match=r"there is no policy 'nowhere/none\.safetensors'; give a file or folder"):
        load("nowhere/none.safetensors")


def test_policies_of_another_encoding_are_refused_in_one_sentence(policy) -> None:
    policy.check_fits(tiny_space())
    space = tiny_space()
    space.encoding = Encoding("cpu", 2, space.encoding.knobs)
    with pytest.raises(UserError, match=r"version 1 of the encoding for cpu devices, and here is version 2 of that"):
        policy.check_fits(space)
    with pytest.raises(UserError, match="observations of other fields"):
        policy.check_fits(medium_space())


def test_of_a_folder_that_policy_is_taken_which_has_not_seen_the_operator(tmp_path) -> None:
    for name, heights in {"all": (28, 14, 7), "without_14": (28, 7), "without_28": (14, 7)}.items():
        training = pretrained(*map(tiny, heights))
        save(training.policy(), tmp_path / f"{name}.safetensors")
    save(pretrained(*map(medium, (28, 14, 7, 3))).policy(), tmp_path / "larger.safetensors")

    def names(height: int, **settings: bool) -> tuple[str, ...]:
        return load(tmp_path, _space_of(height), **settings).names

    assert names(56) == ("conv28", "conv14", "conv7")
    assert names(14) == ("conv28", "conv7")
    assert names(28) == ("conv14", "conv7")
    assert names(7) == ("conv28", "conv14", "conv7")  # there is none without it
    assert names(14, unseen=False) == ("conv28", "conv14", "conv7")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no policy"):
        load(tmp_path / "empty")


def _space_of(height: int) -> ScheduleSpace:
    space = tiny_space()
    space.operator = Conv2d(height=height)
    return space


def test_what_the_package_has_can_be_loaded_by_name() -> None:
    for name in policies.shipped():
        assert load(name).facts["format"] == policies.FORMAT

"""Spaces made smaller: by shorter option lists, or to the configs of a list."""

import numpy as np
import pytest

from tests.synthetic import INFO
from wpk_envs import operators
from wpk_envs.errors import UserError
from wpk_envs.schedules import build_space
from wpk_envs.schedules.reductions import REDUCTIONS

GEMM = operators.override("gemm", m=16, n=64, k=64)


@pytest.mark.parametrize("name", ["conv3x3", "conv1x1", "depthwise3x3", "gemm"])
def test_a_reduction_keeps_exactly_the_configs_with_its_options(name):
    full, small = (build_space(operators.get(name), INFO, reduction=space) for space in ("full", "compact"))
    lists = REDUCTIONS["compact"]

    def kept(vector):
        return all(value in lists.get(knob, (value,)) for knob, value in full.decode(vector).items())

    assert small.size < full.size
    assert list(small) == [vector for vector in full if kept(vector)]


def test_reductions_name_knobs_and_options_that_there_are():
    knobs = {knob.name: knob.options for knob in build_space(GEMM, INFO).encoding.knobs}
    for lists in REDUCTIONS.values():
        assert all(set(kept) <= set(knobs[name]) for name, kept in lists.items())


def test_what_a_reduction_leaves_out_is_explained():
    full, small = (build_space(GEMM, INFO, reduction=space) for space in ("full", "compact"))
    outside = next(vector for vector in full if full.decode(vector)["unroll"] == 2)
    assert "the reduced space has unroll in (1, 4, 8)" in small.explain(outside)


def test_an_unknown_space_is_a_sentence():
    with pytest.raises(UserError, match="unknown space 'compcat'; did you mean compact"):
        build_space(GEMM, INFO, reduction="compcat")


def test_a_listed_space_has_the_configs_of_the_list_and_exact_masks():
    full = build_space(GEMM, INFO)
    every = list(full)
    rng = np.random.default_rng(0)
    chosen = sorted(every[place] for place in rng.choice(len(every), size=40, replace=False))
    listed = build_space(GEMM, INFO, among=[full.decode(vector) for vector in chosen])
    assert listed.encoding is full.encoding
    assert list(listed) == chosen
    assert listed.size == 40
    for depth in range(listed.length):
        for vector in chosen:
            allowed = {other[depth] for other in chosen if other[:depth] == vector[:depth]}
            assert set(np.flatnonzero(listed.mask(vector[:depth]))) == allowed


def test_a_config_that_is_not_listed_is_invalid_and_explained():
    full = build_space(GEMM, INFO)
    first, second = list(full)[:2]
    listed = build_space(GEMM, INFO, among=[full.decode(first)])
    assert listed.is_valid(first)
    assert listed.explain(first) == ""
    assert not listed.is_valid(second)
    assert listed.explain(second) == "this config is not one of those that were recorded"


def test_only_the_templates_asked_for_are_kept():
    conv = operators.get("conv1x1")
    full = build_space(conv, INFO)
    configs = [full.decode(vector) for vector in list(full)[:: full.size // 50]]
    gemms = build_space(conv, INFO, ["gemm"], among=configs)
    assert 0 < gemms.size < len(configs)
    assert {gemms.decode(vector)["template"] for vector in gemms} == {"gemm"}

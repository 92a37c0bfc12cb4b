"""Winograd's transform matrices compute a correlation exactly."""

import numpy as np
import pytest

from wpk_envs.schedules import winograd


@pytest.mark.parametrize("m", [2, 4, 6])
def test_one_dimensional_filtering_is_exact(m):
    rng = np.random.default_rng(m)
    data, taps = rng.standard_normal(m + 2), rng.standard_normal(3)
    at, bt, g = winograd.matrices(m)
    direct = [float(data[i : i + 3] @ taps) for i in range(m)]
    np.testing.assert_allclose(at @ ((g @ taps) * (bt @ data)), direct, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("m", [2, 4, 6])
def test_filters_are_transformed_in_both_dimensions(m):
    weight = np.random.default_rng(m).standard_normal((5, 4, 3, 3)).astype(np.float32)
    g = winograd.matrices(m).g
    transformed = winograd.transform_filters(weight, m)
    assert transformed.shape == (m + 2, m + 2, 5, 4)
    np.testing.assert_allclose(transformed[:, :, 2, 1], g @ weight[2, 1].astype(np.float64) @ g.T, atol=1e-12)


def test_a_transform_costs_two_operations_per_coefficient():
    assert winograd.transform_flops(winograd.matrices(2).at) == 2 * 6

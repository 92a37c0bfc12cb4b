"""Winograd's minimal filtering algorithm F(m x m, 3 x 3): the transform matrices and offline filter transform.

The matrices follow from Toom-Cook interpolation, see A. Lavin and S. Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016, and are derived here in exact rational arithmetic.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import NamedTuple

import numpy as np

KERNEL = 3
POINTS = tuple(Fraction(p) for p in ("0", "1", "-1", "1/2", "-1/2", "2", "-2"))
"""Interpolation points, small and symmetric first: they keep the rounding error low."""


class Matrices(NamedTuple):
    """``Y = At [(G g Gt) * (Bt d B)] A`` for an input tile d of edge m + 2 and a 3 x 3 filter g.

    Attributes:
        at: Output transform, ``[m, m + 2]``.
        bt: Input transform, ``[m + 2, m + 2]``.
        g: Filter transform, ``[m + 2, 3]``.
    """

    at: np.ndarray
    bt: np.ndarray
    g: np.ndarray


def _times_root(polynomial: list[Fraction], root: Fraction) -> list[Fraction]:
    """Coefficients (lowest first) of ``polynomial * (x - root)``."""
    shifted = [Fraction(0), *polynomial]
    scaled = [-root * c for c in polynomial] + [Fraction(0)]
    return [a + b for a, b in zip(shifted, scaled)]


@functools.cache
def matrices(m: int) -> Matrices:
    """The float64 matrices of F(m x m, 3 x 3) for m up to 6."""
    edge = m + KERNEL - 1
    points = POINTS[: edge - 1]
    at = [[p**power for p in points] + [Fraction(power == m - 1)] for power in range(m)]
    g, bt = [], []
    for p in points:
        polynomial, scale = [Fraction(1)], Fraction(1)
        for other in points:
            if other != p:
                polynomial = _times_root(polynomial, other)
                scale *= p - other
        g.append([p**power / scale for power in range(KERNEL)])
        bt.append([*polynomial, Fraction(0)])
    g.append([Fraction(power == KERNEL - 1) for power in range(KERNEL)])
    infinity = [Fraction(1)]
    for p in points:
        infinity = _times_root(infinity, p)
    bt.append(infinity)
    return Matrices(*(np.array(rows, dtype=np.float64) for rows in (at, bt, g)))


def transform_filters(weight: np.ndarray, m: int) -> np.ndarray:
    """``[O, C, 3, 3]`` float32 to ``[m + 2, m + 2, O, C]`` float64, done once offline."""
    g = matrices(m).g
    return np.einsum("ea,fb,ocab->efoc", g, g, weight.astype(np.float64), optimize=True)


def transform_flops(matrix: np.ndarray) -> int:
    """Operations of one vector transform: a multiply-add per coefficient that is not zero."""
    return 2 * int(np.count_nonzero(matrix))

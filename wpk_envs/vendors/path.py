"""A vendor library's way to compute one operator, bound to its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class VendorPath:
    """One way through a vendor library, weights packed and activations in the layout it likes best.

    Attributes:
        name: How tables call it.
        run: Computes the whole operator, epilogue included, on inputs that are already in place.
        to_canonical: Brings what ``run`` returned into the operator's canonical output layout.
    """

    name: str
    run: Callable[[], Any]
    to_canonical: Callable[[Any], np.ndarray]

    def output(self) -> np.ndarray:
        """Run once; the result in the operator's canonical layout."""
        return self.to_canonical(self.run())

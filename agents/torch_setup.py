"""How agents use torch: tiny networks on one CPU thread, seeded, leaving the caller's state as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def small_torch(seed: int) -> Iterator[None]:
    """Seed torch and keep it to one thread, for networks too small to share; restore both after.

    Also turns off the argument checks of torch's distributions, which cost a fifth of PPO's time; these
    stay off.
    """
    threads = torch.get_num_threads()
    torch.distributions.Distribution.set_default_validate_args(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

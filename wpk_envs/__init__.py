"""WPK Envs: reinforcement-learning environments for tensor-program schedule search.

Importing this registers the ``wpk/...`` ids with Gymnasium, which since 1.0 finds no environments by itself.
Where there is no Gymnasium there is nothing to register with: a machine that only times kernels
(`wpk_envs.devices.time_bundle`) has numpy and torch, and needs no more.
"""

import importlib.util

__version__ = "0.1.0"

if importlib.util.find_spec("gymnasium") is not None:
    import wpk_envs.envs  # noqa: F401

"""WPK Envs: reinforcement-learning environments for tensor-program schedule search.

Importing this registers the ``wpk/...`` ids with Gymnasium, which since 1.0 finds no environments by itself.
"""

__version__ = "0.1.0"

import wpk_envs.envs  # noqa: F401

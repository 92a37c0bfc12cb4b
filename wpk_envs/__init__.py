"""WPK Envs: reinforcement-learning environments for tensor-program schedule search.

Importing this registers the ``wpk/...`` ids with Gymnasium, which since 1.0 finds no environments by itself.
"""

__version__ = "0.1.0"

try:
    import wpk_envs.envs  # noqa: F401
except ModuleNotFoundError as missing:
    # A machine that only times bundles has numpy and torch alone, and no environments.
    if str(missing.name).startswith("wpk_envs"):
        raise

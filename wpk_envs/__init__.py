"""WPK Envs: reinforcement-learning environments for tensor-program schedule search."""

__version__ = "0.1.0"

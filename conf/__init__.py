"""Hydra configs of the programs in `experiments/`; every key is explained in README.md."""

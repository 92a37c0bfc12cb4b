"""The programs: `python -m experiments.run` and its siblings, one verb each."""

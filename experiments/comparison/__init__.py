"""What `experiments.compare` is made of: settings, runs, scores, statistics, and how they are shown."""

"""The parts of `experiments.report`: what is found in folders, what is made of it, and the page."""

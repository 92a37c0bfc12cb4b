"""NVIDIA GPUs: kernels compiled without one, and timed where one is."""

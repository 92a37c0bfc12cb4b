"""GPUs that are not here: kernels are really compiled and executed, their time is predicted by a model."""

"""Our own kernels as candidates of a plan: tuned schedules and defaults, in the layouts that a plan asks for."""

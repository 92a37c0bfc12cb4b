"""The library kernels that a tuned kernel must beat."""

"""Plans for NVIDIA GPUs: our kernels, cuDNN and cuBLAS through torch, and a run as one captured CUDA graph."""

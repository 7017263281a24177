"""The four-direction scan in CUDA C++, compiled on first use by NVRTC, which comes with PyTorch."""

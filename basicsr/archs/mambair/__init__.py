"""Parts of MambaIR (`mambair_arch.py`)."""

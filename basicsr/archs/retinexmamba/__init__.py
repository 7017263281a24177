"""Parts of RetinexMamba (`retinexmamba_arch.py`)."""

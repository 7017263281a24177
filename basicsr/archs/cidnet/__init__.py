"""Parts of CIDNet (`cidnet_arch.py`)."""

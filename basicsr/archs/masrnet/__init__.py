"""Parts of MASR-Net (`masrnet_arch.py`)."""

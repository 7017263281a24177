"""Parts of ISALux (`isalux_arch.py`)."""

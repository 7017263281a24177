"""Parts of IllRecNet (`illrecnet_arch.py`)."""

"""Parts of MoCE-IR (`moce_ir_arch.py`)."""

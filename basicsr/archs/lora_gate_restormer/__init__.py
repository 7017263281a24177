"""Parts of the low-rank relatives of Restormer (`lora_gate_restormer_arch.py`)."""

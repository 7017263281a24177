"""Parts of Restormer (`restormer_arch.py`) that its relatives use as well."""

"""Ablation studies: the variants of a network trained with several seeds, and one table of their results."""

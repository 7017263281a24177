"""What drives a model: the start of a run, the loop, its logs and curves, early stopping, resuming."""

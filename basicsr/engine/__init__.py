"""Services of a training that have no loop: precision, optimizers, schedules, averages, checkpoints, CUDA graphs."""

"""What a run is made of beside the model: schedules, precision, moving averages, checkpoints, logs, the training loop."""

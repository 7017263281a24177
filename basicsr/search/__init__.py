"""Search for options: many short runs, proposed and pruned by Optuna."""

"""Weights that come with the project: what a finished run has left, and how the manifest is shown."""

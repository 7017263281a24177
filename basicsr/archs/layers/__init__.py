"""Blocks that several network families share."""

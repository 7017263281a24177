"""Weights of all kinds on one data set: quality, cost, claims, in one table."""

"""Weights of others from where they are published: addresses, the clients that get them, and the cache that keeps them."""

"""Sparse autoencoders: one file per architecture, their training, and their reconstruction."""

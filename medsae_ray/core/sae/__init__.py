"""Sparse autoencoders: one file per architecture, their training, and how well they reconstruct."""

"""Queries in words, and their answers: features, and the images that show them."""

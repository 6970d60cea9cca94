"""Queries in words, answered by features and the images that show them."""

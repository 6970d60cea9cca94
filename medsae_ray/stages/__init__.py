"""The stages: the artifact x-0123... is made by x.py."""

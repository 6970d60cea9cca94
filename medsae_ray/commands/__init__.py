"""The commands of `medsae` and their arguments."""

"""What each command of `medsae` does, and the arguments that it takes."""

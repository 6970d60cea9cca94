"""How few concepts a unit stands for, measured in four ways, each with what chance gives."""

"""The checks of a recipe before a run starts: equipment, data and estimates."""

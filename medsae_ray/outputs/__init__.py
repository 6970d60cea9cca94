"""The pages, tables and summary of a run that people read."""

"""Names of features: which images show them, what an engine is asked, and how its answers are judged."""

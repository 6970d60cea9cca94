"""The naming of features: the images shown, the questions to an engine, and the judgement of its answers."""

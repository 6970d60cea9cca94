"""The published figures of the papers that this software implements, beside those of a run."""

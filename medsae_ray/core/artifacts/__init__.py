"""Storage: folders of files, immutable artifacts, and the schemas of their tables."""

"""The machinery that makes any stage: shards over a cluster, progress, retries and records."""

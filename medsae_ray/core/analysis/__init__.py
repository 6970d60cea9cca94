"""Statistics of units over images: partial sums that merge, AUROC, entropy, correlations, probes and replication."""

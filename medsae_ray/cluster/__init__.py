"""The cluster that a run is placed on: joining it, its capacity, and the placing of a run's demands."""

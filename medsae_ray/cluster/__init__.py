"""The cluster that a run is placed on: joining it, its capacity, and whether a run's demands fit."""

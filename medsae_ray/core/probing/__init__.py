"""Linear probes of labels and metadata on a few units: how much of what all dimensions say do n features carry."""

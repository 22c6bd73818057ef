"""Side-by-side measurements: what Atoll does next to its peers, in one run."""

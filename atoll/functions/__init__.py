"""Programs at the edge, one folder per dialect."""

"""The life of a request inside an edge worker."""

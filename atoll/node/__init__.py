"""Composition roots: the supervisor and one file per role."""

"""Atoll: a self-hosted anycast edge network. A ring of islands that share one address."""

__version__ = "0.1.0"

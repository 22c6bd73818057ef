"""Typed values for everything that configures Atoll; pure."""

"""A small room for one process: own namespaces, a root with only what it needs, no network.

Standard library only: the launcher runs in an interpreter without site-packages so that it starts quickly.
"""

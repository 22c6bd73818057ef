"""Announcing a service: health, policy, speakers."""

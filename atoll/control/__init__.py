"""The control plane: versions, rollouts, API."""

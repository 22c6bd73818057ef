"""Every versioned format: messages between roles, frames, snapshots."""

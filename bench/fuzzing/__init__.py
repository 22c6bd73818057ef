"""What `bench.fuzz` feeds to whom, and what it compares."""

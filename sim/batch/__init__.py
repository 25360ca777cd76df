"""Many simulated copies of a task, stepped together."""

"""Learning from logs."""

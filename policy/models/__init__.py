"""Networks of policies and critics, and their checkpoints."""

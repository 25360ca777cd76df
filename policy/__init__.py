"""Train a policy, export it, evaluate it and improve it from logs."""

"""Learning from logs: demonstrations and fine-tuning."""

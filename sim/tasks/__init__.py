"""Tasks: rewards, costs and start states of a robot."""

"""The commands that change and show what may run on a robot."""

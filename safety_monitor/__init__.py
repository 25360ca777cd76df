"""May this action reach the motors? NumPy and stdlib alone; time is an argument."""

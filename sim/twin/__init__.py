"""The twin: a simulated robot that answers like a real robot."""

"""The twin: a simulated robot that answers as a real one would."""

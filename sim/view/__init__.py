"""A page with the picture of a simulated robot that another process moves."""

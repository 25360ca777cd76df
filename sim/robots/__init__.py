"""Models of robots in MuJoCo."""

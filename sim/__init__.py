"""Robots and tasks in MuJoCo, and the twin of the drive robot."""

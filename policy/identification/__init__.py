"""Identification: parameters of a robot's model from logs of its motion."""

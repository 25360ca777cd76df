"""Exporting, checking and evaluating a trained policy."""

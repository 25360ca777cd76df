"""Rollouts, their samples and their advantages."""

"""Rollouts, the samples that are made of them, and their advantages."""

"""Train a policy under a cost budget, run it on a robot under the same budget, learn from it."""

__version__ = "0.1.0"
